#include "jobs/config/ini_file.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <sstream>

#include <fmt/format.h>

#include "framework/base/error.h"
#include "jobs/config/key.h"

namespace lexring {
namespace {

constexpr std::size_t most_bytes = 1 << 20;
constexpr int patience_seconds = 5;  // for a pipe

class OpenFile {
 public:
  explicit OpenFile(const std::filesystem::path& path)
      : number_(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {
    require_usage(number_ >= 0, "{} cannot be opened: {}; check the path and its permissions", path.string(),
                  std::strerror(errno));
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  ~OpenFile() { ::close(number_); }
  int number() const { return number_; }

 private:
  int number_;
};

std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(" \t\r");
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

}  // namespace

std::string read_ini_file(const std::filesystem::path& path) {
  const std::string name = path.string();
  std::error_code error;
  require_usage(!std::filesystem::is_directory(path, error), "{} is a directory, not an INI file", name);
  const OpenFile file(path);
  std::string text;
  std::array<char, 4096> chunk;
  while (true) {
    pollfd ready = {file.number(), POLLIN, 0};
    const int count = ::poll(&ready, 1, 1000 * patience_seconds);
    if (count < 0 && errno == EINTR) continue;
    require_usage(count > 0, "nothing came from {} within {} seconds; is somebody writing into it?", name,
                  patience_seconds);
    const ssize_t bytes = ::read(file.number(), chunk.data(), chunk.size());
    if (bytes < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    require_usage(bytes >= 0, "{} cannot be read: {}", name, std::strerror(errno));
    if (bytes == 0) break;
    text.append(chunk.data(), static_cast<std::size_t>(bytes));
    require_usage(text.size() <= most_bytes, "{} is larger than 1 MiB, so it is no configuration; give an INI file",
                  name);
  }
  require_usage(text.rfind("\xff\xfe", 0) != 0 && text.rfind("\xfe\xff", 0) != 0, "{} is UTF-16 text; save it as UTF-8",
                name);
  require_usage(text.find('\0') == std::string::npos,
                "{} is not a text file: it holds bytes of value 0; give an INI file", name);
  return text.rfind("\xef\xbb\xbf", 0) == 0 ? text.substr(3) : text;
}

std::vector<IniEntry> ini_entries(const std::string& text, const std::string& source) {
  std::vector<IniEntry> entries;
  std::stringstream stream(text);
  std::string line, section;
  for (std::size_t number = 1; std::getline(stream, line); ++number) {
    line = trimmed(line.substr(0, line.find('#')));
    if (line.empty()) continue;
    const bool heading = line.size() > 1 && line.front() == '[' && line.back() == ']';
    const auto equals = line.find('=');
    const std::string name = trimmed(heading ? line.substr(1, line.size() - 2) : line.substr(0, equals));
    require_usage(!name.empty() && (heading || equals != std::string::npos),
                  "{}the line '{}' cannot be read; lines are 'key = value', '[section]' or '# comment'",
                  origin_in_ini(source, number), shown(line));
    if (heading) section = name + ".";
    else entries.push_back({section + name, trimmed(line.substr(equals + 1)), number});
  }
  return entries;
}

std::string origin_in_ini(const std::string& source, std::size_t line) { return fmt::format("{}:{}: ", source, line); }

std::string origin_in_ini(const std::vector<IniEntry>& entries, const std::string& source, const std::string& name) {
  std::size_t line = 0;
  for (const IniEntry& entry : entries) line = entry.name == name ? entry.line : line;
  return origin_in_ini(source, line);
}

}  // namespace lexring
