#include "jobs/training/metrics.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>

#include <nlohmann/json.hpp>

#include "framework/base/console.h"
#include "framework/base/error.h"

namespace lexring {
namespace {

/// Bytes of the leading lines that are whole and belong to steps up to `last_step`. A process that was killed may have
/// left half a line.
std::uintmax_t bytes_to_keep(const std::filesystem::path& path, std::int64_t last_step) {
  std::ifstream stream(path, std::ios::binary);
  std::uintmax_t keep = 0;
  for (std::string line; std::getline(stream, line) && !stream.eof();) {
    const auto json = nlohmann::json::parse(line, nullptr, false);
    if (json.is_discarded() || !json.is_object() || json.value("step", last_step + 1) > last_step) break;
    keep += line.size() + 1;
  }
  return keep;
}

void cut_back(const std::filesystem::path& path, std::int64_t last_step) {
  std::filesystem::resize_file(path, last_step > 0 ? bytes_to_keep(path, last_step) : 0);
}

}  // namespace

MetricsFile::MetricsFile(std::filesystem::path path, std::int64_t last_step) : path_(std::move(path)) {
  if (std::filesystem::exists(path_)) cut_back(path_, last_step);
  file_.reset(std::fopen(path_.c_str(), "ab"));
  require(file_ != nullptr, "{} cannot be opened for writing: {}; check the directory's permissions", path_.string(),
          std::strerror(errno));
  std::setvbuf(file_.get(), nullptr, _IONBF, 0);  // what was not written is known to the byte
}

void MetricsFile::begin(std::int64_t done, std::int64_t /*steps*/) {
  if (!write_held()) {  // its beginning may be in the file, which is cut back to whole lines
    say("{} cannot be written: {}; the lines that it did not take are lost\n", path_.string(), std::strerror(errno));
    held_.clear();
  }
  cut_back(path_, done);
}

void MetricsFile::write(const StepMetrics& m) {
  nlohmann::ordered_json json = {
      {"step", m.step},      {"loss", m.loss},     {"gradient_norm", m.gradient_norm},
      {"lr", m.lr},          {"epochs", m.epochs}, {"tokens_per_second", m.tokens_per_second},
      {"flops", m.flops},    {"memory", m.memory}, {"seconds", m.seconds},
      {"skipped", m.skipped}};
  if (m.valid_loss) {
    json["valid_loss"] = *m.valid_loss;
    json["valid_seconds"] = m.valid_seconds;
  }
  if (m.computed_twice) json["computed_twice"] = *m.computed_twice;
  if (m.spike_score) json["spike_score"] = *m.spike_score;
  held_ += json.dump() + "\n";
  const bool held = failing_;
  failing_ = !write_held();
  if (failing_ && !held)
    say("{} cannot be written: {}; going on; its lines are kept in memory until there is space\n", path_.string(),
        std::strerror(errno));
}

bool MetricsFile::write_held() {
  held_.erase(0, std::fwrite(held_.data(), 1, held_.size(), file_.get()));
  return held_.empty();
}

void MetricsFile::finish() {
  const bool whole = write_held();
  require(whole, "{} cannot be written: {}; its last lines are lost; the checkpoints are whole", path_.string(),
          std::strerror(errno));
}

}  // namespace lexring
