#include "jobs/study/study_results.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "framework/base/error.h"
#include "jobs/evaluation/report.h"
#include "jobs/evaluation/tables.h"

namespace lexring {
namespace {

using Json = nlohmann::json;
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

double number(const Json& json, const char* key) {
  return json.contains(key) && json[key].is_number() ? json[key].get<double>() : nan;
}

/// A cell of one evaluation.
struct Measured {
  std::string not_measured;
  double value = nan, bits_per_byte = nan, tokens_per_second = nan, peak_mib = nan;
  SegmentSums clusters;
};

/// One evaluation: by pattern, then by length.
struct Evaluation {
  std::int64_t seed = 0, parameters = 0, train_length = 0;
  std::string texts;  ///< which they are: only results of the same texts are compared
  std::vector<std::string> patterns;
  std::map<std::pair<std::string, std::int64_t>, Measured> cells;
};

SegmentSums sums_of(const Json& cell) {
  SegmentSums sums;
  for (const Json& value : cell.at("segment_nll")) sums.nll.push_back(value.is_number() ? value.get<double>() : nan);
  sums.tokens = cell.at("segment_tokens").get<std::vector<std::int64_t>>();
  return sums;
}

template <class T>
void add_once(std::vector<T>& list, const T& value) {
  if (std::find(list.begin(), list.end(), value) == list.end()) list.push_back(value);
}

/// "blockwise", "blockwise 64" where there are several, "sink window".
std::string pattern_of(const Json& series, const Json& all) {
  const std::string name = series.at("pattern");
  const auto same =
      std::count_if(all.begin(), all.end(), [&](const Json& other) { return other.at("pattern") == name; });
  std::string text = name;
  std::replace(text.begin(), text.end(), '_', ' ');
  for (const char* size : {"block", "window", "sinks"}) {
    if (same > 1 && series.contains(size)) text += " " + series[size].dump();
  }
  return text;
}

/// Losses of windows.
void read_losses(const Json& json, Evaluation& evaluation, StudyResults& results) {
  evaluation.train_length = json.at("models").at(0).at("train_length");
  evaluation.texts = json.at("data_hash");
  const auto every = json.value("landmark_every", std::int64_t{0});
  if (every > 0) evaluation.texts += fmt::format(" with a landmark after every {}", every);
  const std::vector<std::int64_t> ends = json.at("segment_ends");
  for (const Json& series : json.at("series")) {
    const std::string pattern = pattern_of(series, json["series"]);
    evaluation.patterns.push_back(pattern);
    for (const Json& cell : series.at("cells")) {
      const std::int64_t length = cell.at("length");
      Measured& measured = evaluation.cells[{pattern, length}];
      if (cell.contains("not_measured")) {
        measured.not_measured = cell["not_measured"];
        continue;
      }
      measured.value = number(cell, "loss");
      measured.bits_per_byte = number(cell, "bits_per_byte");
      measured.tokens_per_second = number(cell, "tokens_per_second");
      measured.peak_mib = number(cell, "peak_mib");
      measured.clusters = clustered(sums_of(cell), ends, cluster_tokens({length}));
    }
  }
  results.data = json.at("data");
  const std::string others = "; where a method has landmarks, they are among these tokens";
  results.landmarks = results.landmarks || every > 0;
  results.scored =
      fmt::format("the first {}, the same for every method, length and pattern{}",
                  counted_with_commas(json.at("tokens").get<std::int64_t>(), "token"), results.landmarks ? others : "");
}

/// Right answers to a task, in percent; texts are the clusters.
void read_answers(const Json& json, Evaluation& evaluation, StudyResults& results) {
  results.measure = {"right answers", "%", fmt::format("size of the text, {}", json.at("unit").get<std::string>()), 1,
                     true};
  evaluation.texts = fmt::format("{} {}", json.at("task").dump(), json.at("seed").dump());
  for (const Json& cell : json.at("series").at(0).at("cells")) evaluation.texts += " " + cell.at("size").dump();
  for (const Json& series : json.at("series")) {
    for (const Json& cell : series.at("cells")) {
      std::string pattern = pattern_of(series, json["series"]);
      if (cell.contains("variant")) pattern += ", " + cell["variant"].get<std::string>();
      add_once(evaluation.patterns, pattern);
      Measured& measured = evaluation.cells[{pattern, cell.at("size").get<std::int64_t>()}];
      if (cell.contains("not_measured")) {
        measured.not_measured = cell["not_measured"];
        continue;
      }
      measured.value = 100 * number(cell, "share");
      for (const Json& right : cell.at("text_right")) measured.clusters.nll.push_back(100 * right.get<double>());
      measured.clusters.tokens = cell.at("text_answers").get<std::vector<std::int64_t>>();
    }
  }
  results.data = fmt::format("texts of the task {}", json.at("task").get<std::string>());
  results.scored = fmt::format("{} of each size, the same for every method and pattern",
                               counted_with_commas(json.at("texts").get<std::int64_t>(), "text"));
}

std::optional<Evaluation> read_evaluation(const Study& study, const std::filesystem::path& directory,
                                          StudyResults& results) {
  const std::filesystem::path path = directory / results_file(study);
  std::ifstream stream(path);
  if (!stream) return std::nullopt;
  try {
    const Json json = Json::parse(stream);
    Evaluation evaluation;
    evaluation.parameters = json.at("models").at(0).at("parameters");
    (study.task.empty() ? read_losses : read_answers)(json, evaluation, results);
    results.machine = json.at("machine");
    results.device = json.at("device");
    results.version = json.at("version");
    return evaluation;
  } catch (const Json::exception& error) {
    fail("{} cannot be read: {}; delete that directory, and the study evaluates again", path.string(), error.what());
  }
}

/// The same texts in the same clusters.
bool comparable(const SegmentSums& a, const SegmentSums& b) { return !a.nll.empty() && a.tokens == b.tokens; }

StudyCell cell_of(const std::vector<Evaluation>& method, const std::vector<Evaluation>& baseline,
                  const std::string& pattern, std::int64_t length) {
  StudyCell cell;
  cell.length = length;
  cell.not_measured = "not evaluated";
  std::vector<double> bytes, speeds;
  std::vector<SegmentSums> ours, theirs;
  for (const Evaluation& evaluation : method) {
    const auto at = evaluation.cells.find({pattern, length});
    if (at == evaluation.cells.end()) continue;
    const Measured& measured = at->second;
    cell.not_measured = measured.not_measured;
    if (!measured.not_measured.empty()) continue;
    cell.values.push_back(measured.value);
    bytes.push_back(measured.bits_per_byte);
    speeds.push_back(measured.tokens_per_second);
    cell.peak_mib = std::max(cell.peak_mib, measured.peak_mib);
    for (const Evaluation& other : baseline) {
      const auto base = other.cells.find({pattern, length});
      if (other.seed != evaluation.seed || other.texts != evaluation.texts || base == other.cells.end() ||
          !comparable(measured.clusters, base->second.clusters))
        continue;
      ours.push_back(measured.clusters);
      theirs.push_back(base->second.clusters);
    }
  }
  if (!cell.measured()) return cell;
  cell.value = mean_of(cell.values);
  cell.bits_per_byte = mean_of(bytes).mean;
  cell.tokens_per_second = mean_of(speeds).mean;
  if (!ours.empty() && &method != &baseline) cell.difference = difference_over_seeds(ours, theirs);
  return cell;
}

void add_training(StudyCost& cost, std::vector<TrainingCurve>& curves, const std::filesystem::path& run,
                  std::int64_t seed, std::vector<double>& speeds, std::vector<double>& seconds) {
  std::ifstream stream(run / "metrics.jsonl");
  double all = 0;
  for (std::string line; std::getline(stream, line);) {
    const Json json = Json::parse(line, nullptr, false);
    if (!json.is_object()) continue;
    speeds.push_back(number(json, "tokens_per_second"));
    cost.memory_mib = std::max(cost.memory_mib, number(json, "memory"));
    if (const double one = number(json, "seconds"); std::isfinite(one)) all += one;
  }
  if (all > 0) seconds.push_back(all);
  curves.push_back({fmt::format("seed {}", seed),
                    read_training_curve(run / "metrics.jsonl", std::numeric_limits<std::int64_t>::max())});
}

double median(std::vector<double> values) {
  std::erase_if(values, [](double value) { return !std::isfinite(value); });
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

double StudyCell::least() const { return values.empty() ? nan : *std::min_element(values.begin(), values.end()); }
double StudyCell::most() const { return values.empty() ? nan : *std::max_element(values.begin(), values.end()); }

Estimate mean_of(const std::vector<double>& values) {
  if (values.empty()) return {nan, nan, 0};
  SegmentSums each{values, std::vector<std::int64_t>(values.size(), 1)};
  return mean_loss(each);
}

Estimate difference_over_seeds(const std::vector<SegmentSums>& method, const std::vector<SegmentSums>& baseline) {
  require(!method.empty() && method.size() == baseline.size(), "{} seeds cannot be paired with {}", method.size(),
          baseline.size());
  const auto seeds = static_cast<double>(method.size());
  std::vector<double> each;
  SegmentSums mean = method[0], base = baseline[0];
  std::fill(mean.nll.begin(), mean.nll.end(), 0.0);
  std::fill(base.nll.begin(), base.nll.end(), 0.0);
  for (std::size_t s = 0; s < method.size(); ++s) {
    each.push_back(paired_difference(method[s], baseline[s]).mean);
    for (std::size_t i = 0; i < mean.nll.size(); ++i) {
      mean.nll[i] += method[s].nll.at(i) / seeds;
      base.nll[i] += baseline[s].nll.at(i) / seeds;
    }
  }
  const Estimate texts = paired_difference(mean, base), by_seed = mean_of(each);
  if (method.size() == 1 || !std::isfinite(texts.error)) return {texts.mean, texts.error, texts.clusters};
  const double a = by_seed.error * by_seed.error, b = texts.error * texts.error;
  const double freedom =
      (a + b) * (a + b) /
      (a * a / static_cast<double>(by_seed.clusters - 1) + b * b / static_cast<double>(texts.clusters - 1));
  return {texts.mean, std::sqrt(a + b), std::isfinite(freedom) ? 1 + static_cast<std::int64_t>(freedom) : 2};
}

StudyResults read_results(const Study& study, const StudyDirectory& directory) {
  StudyResults results;
  std::vector<std::vector<Evaluation>> evaluations(study.methods.size());
  std::vector<std::int64_t> train_lengths;
  std::size_t baseline = 0;
  for (std::size_t m = 0; m < study.methods.size(); ++m) {
    const StudyMethod& method = study.methods[m];
    if (method.name == study.baseline) baseline = m;
    StudyCost& cost = results.costs.emplace_back();
    std::vector<TrainingCurve>& curves = results.curves.emplace_back();
    std::vector<double> speeds, seconds;
    for (const std::int64_t seed : study.seeds) {
      const std::string name = StudyDirectory::run_name(method.name, seed);
      if (method.trained()) add_training(cost, curves, directory.run(name), seed, speeds, seconds);
      auto evaluation = read_evaluation(study, directory.evaluation(name), results);
      if (!evaluation) continue;
      evaluation->seed = seed;
      cost.parameters = evaluation->parameters;
      if (study.task.empty()) add_once(train_lengths, evaluation->train_length);
      for (const std::string& pattern : evaluation->patterns) add_once(results.patterns, pattern);
      for (const auto& [place, cell] : evaluation->cells) add_once(results.lengths, place.second);
      evaluations[m].push_back(std::move(*evaluation));
      ++results.evaluations;
    }
    cost.tokens_per_second = median(speeds);
    cost.seconds = seconds.empty() ? 0 : mean_of(seconds).mean;
  }
  if (train_lengths.size() == 1) results.train_length = train_lengths.front();
  std::sort(results.lengths.begin(), results.lengths.end());
  for (const std::string& pattern : results.patterns) {
    for (std::size_t m = 0; m < study.methods.size(); ++m) {
      const bool has = std::any_of(evaluations[m].begin(), evaluations[m].end(), [&](const Evaluation& one) {
        return std::find(one.patterns.begin(), one.patterns.end(), pattern) != one.patterns.end();
      });
      if (!has) continue;
      StudySeries& series = results.series.emplace_back(StudySeries{m, pattern, {}});
      for (const std::int64_t length : results.lengths)
        series.cells.push_back(cell_of(evaluations[m], evaluations[baseline], pattern, length));
    }
  }
  return results;
}

}  // namespace lexring
