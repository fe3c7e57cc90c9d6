#include "jobs/evaluation/parts_file.h"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include "framework/base/console.h"
#include "framework/base/counted.h"
#include "framework/base/error.h"
#include "parallel/checkpoint/files.h"

namespace lexring {
namespace {

using Json = nlohmann::ordered_json;

/// JSON has no number for these.
Json json_of(double number) {
  if (std::isfinite(number)) return number;
  return std::isnan(number) ? "nan" : number > 0 ? "inf" : "-inf";
}

double number_of(const Json& json) {
  return json.is_string() ? std::strtod(json.get<std::string>().c_str(), nullptr) : json.get<double>();
}

std::string checked_line(const Json& json) {
  const std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  return hash_text(text) + " " + text;
}

/// The object of a line; nothing where it is not as it was written.
std::optional<Json> read_line(std::string_view line) {
  constexpr std::size_t digits = 16;
  if (line.size() <= digits || line[digits] != ' ') return std::nullopt;
  const std::string_view text = line.substr(digits + 1);
  if (hash_text(text) != line.substr(0, digits)) return std::nullopt;
  Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return std::nullopt;
  return json;
}

Part part_of(const Json& json) {
  Part part{json.at("of").get<std::string>(),
            json.at("first").get<std::int64_t>(),
            json.at("last").get<std::int64_t>(),
            {},
            json.at("counts").get<std::vector<std::int64_t>>()};
  for (const Json& number : json.at("numbers")) part.numbers.push_back(number_of(number));
  return part;
}

Asked asked_of(const Json& json) {
  Asked asked;
  for (const Json& one : json.at("asked")) asked.emplace_back(one.at(0), one.at(1));
  return asked;
}

struct Content {
  Asked asked;
  std::string command;
  std::vector<Part> parts;
  std::size_t size = 0;  ///< bytes of whole lines
};

/// Calls `take` with whole lines; the bytes of those until it returns false, or until the last.
template <class Take>
std::size_t each_line(const std::string& text, const Take& take) {
  std::size_t begin = 0;
  for (std::size_t end = 0; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    if (!take(std::string_view(text).substr(begin, end - begin))) break;
  }
  return begin;
}

Content content_of(const std::string& text) {
  Content content;
  bool first = true;
  content.size = each_line(text, [&](std::string_view line) {
    const std::optional<Json> json = read_line(line);
    if (!json) return false;
    if (first) {
      content.asked = asked_of(*json);
      content.command = json->at("command");
    } else {
      content.parts.push_back(part_of(*json));
    }
    first = false;
    return true;
  });
  return content;
}

std::string read_all(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

/// "lengths = 32,64, there 32; ..."
std::string differences(const Asked& there, const Asked& now) {
  std::vector<std::string> texts;
  const auto value = [](const Asked& all, const std::string& name) {
    for (const auto& [key, text] : all)
      if (key == name) return text;
    return std::string("none");
  };
  for (const auto& [name, text] : now) {
    if (const std::string before = value(there, name); before != text)
      texts.push_back(fmt::format("{} = {}, there {}", name, text, before));
  }
  for (const auto& [name, text] : there) {
    if (value(now, name) == "none" && text != "none") texts.push_back(fmt::format("{} there {}", name, text));
  }
  return fmt::format("{}", fmt::join(texts, "; "));
}

}  // namespace

std::string line_of(const Part& part) {
  Json json = {{"of", part.of}, {"first", part.first}, {"last", part.last}, {"numbers", Json::array()}};
  for (const double number : part.numbers) json["numbers"].push_back(json_of(number));
  json["counts"] = part.counts;
  return checked_line(json);
}

std::vector<Part> parts_of(const std::string& lines) {
  std::vector<Part> parts;
  each_line(lines, [&](std::string_view line) {
    const std::optional<Json> json = read_line(line);
    if (json) parts.push_back(part_of(*json));
    return json.has_value();
  });
  return parts;
}

bool PartsFile::holds(const std::filesystem::path& directory, const Asked& asked) {
  return content_of(read_all(directory / name)).asked == asked;
}

PartsFile::PartsFile(const std::filesystem::path& directory, const Asked& asked, const std::string& command,
                     PartsThere there)
    : path_(directory / name), lock_(path_), synced_(std::chrono::steady_clock::now()) {
  require_usage(!lock_.taken(),
                "another lexring evaluates into {}; wait until it has ended, or choose another --output",
                directory.string());
  require(lock_.descriptor() >= 0, "{} cannot be opened: {}; check its permissions or choose another --output",
          path_.string(), std::strerror(lock_.error()));
  const std::string text = read_all(path_);
  Content content = content_of(text);
  const bool same = content.asked == asked;
  require_usage(same || there != PartsThere::go_on || content.parts.empty(),
                "{} holds {} of another evaluation, which was not finished ({}); go on with that one ({}), choose "
                "another --output, or begin anew with --overwrite",
                directory.string(), counted(std::ssize(content.parts), "part"), differences(content.asked, asked),
                content.command);
  if (!same || there == PartsThere::discard) {
    begin(asked, command);
    return;
  }
  if (content.size < text.size()) {
    say("evaluate: the end of {}, {}, was not written as a whole and is left out\n", path_.string(),
        counted(text.size() - content.size, "byte"));
    require(::ftruncate(lock_.descriptor(), static_cast<off_t>(content.size)) == 0, "{} cannot be written: {}",
            path_.string(), std::strerror(errno));
  }
  parts_ = std::move(content.parts);
  size_ = content.size;
}

PartsFile::~PartsFile() {
  if ((parts_.empty() || size_ == 0) && !removed_) remove();
}

void PartsFile::begin(const Asked& asked, const std::string& command) {
  Json json = {{"command", command}, {"asked", Json::array()}};
  for (const auto& [key, text] : asked) json["asked"].push_back({key, text});
  waiting_ = checked_line(json) + "\n";
  const bool emptied = ::ftruncate(lock_.descriptor(), 0) == 0;
  require(emptied, "{} cannot be written: {}; check its permissions or choose another --output", path_.string(),
          std::strerror(errno));
  if (write()) sync_path(path_.parent_path());
}

void PartsFile::add(Part part) {
  waiting_ += line_of(part) + "\n";
  parts_.push_back(std::move(part));
  if (write() && std::chrono::steady_clock::now() - synced_ >= seconds_between_syncs) sync();
}

bool PartsFile::sync() {
  const bool written = write() && ::fdatasync(lock_.descriptor()) == 0;
  synced_ = std::chrono::steady_clock::now();
  return written;
}

bool PartsFile::write() {
  std::size_t done = 0;
  errno = 0;
  while (done < waiting_.size()) {
    const ssize_t count =
        ::pwrite(lock_.descriptor(), waiting_.data() + done, waiting_.size() - done, static_cast<off_t>(size_ + done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    done += static_cast<std::size_t>(count);
  }
  if (done == waiting_.size()) {
    size_ += done;
    waiting_.clear();
    return true;
  }
  const std::string reason = errno != 0 ? std::strerror(errno) : "the write failed";
  if (!said_)
    say("evaluate: {} cannot be written: {}; the evaluation goes on, but what it finds from here on is lost if it is "
        "stopped\n",
        path_.string(), reason);
  said_ = true;
  // Half a line would end what can be read here.
  if (::ftruncate(lock_.descriptor(), static_cast<off_t>(size_)) != 0) return false;
  return false;
}

void PartsFile::remove() {
  std::error_code error;
  std::filesystem::remove(path_, error);
  removed_ = true;
}

}  // namespace lexring
