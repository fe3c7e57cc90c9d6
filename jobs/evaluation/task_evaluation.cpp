#include "jobs/evaluation/task_evaluation.h"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "datasets/prepare_task.h"
#include "framework/base/console.h"
#include "framework/base/error.h"
#include "jobs/evaluation/records.h"
#include "jobs/evaluation/tables.h"
#include "jobs/launch/model_state.h"

namespace lexring {
namespace {

/// Texts of different sizes and variants have nothing in common, nor have they with those of a dataset of the same
/// seed.
std::uint64_t seed_of(const TaskKeys& keys, std::size_t size, std::size_t variant) {
  constexpr std::uint64_t evaluation = 0x65'76'61'6c'75'61'74'65;  // its name in ASCII
  return (static_cast<std::uint64_t>(keys.seed) ^ evaluation) + 1000003U * size + 10007U * variant;
}

/// Places that are read of the longest one.
std::int64_t longest_of(const std::vector<ScoredText>& texts, LandmarkSpacing landmarks) {
  std::int64_t longest = 0;
  for (const ScoredText& text : texts) longest = std::max(longest, places_read(text, landmarks));
  return longest;
}

std::int64_t longest_text(const TaskResults& results, LandmarkSpacing landmarks) {
  std::int64_t longest = 0;
  for (std::size_t size = 0; size < results.keys.sizes.size(); ++size)
    longest = std::max(longest, longest_of(texts_of(results, size, 0), landmarks));
  return longest;
}

std::string share_of(const TaskScore& score) {
  if (!score.not_measured.empty()) return "n/a";
  const Share::Interval interval = score.answers.interval();
  return fmt::format("{:.1f} % ({:.1f} to {:.1f})", 100 * score.answers.value(), 100 * interval.low,
                     100 * interval.high);
}

}  // namespace

std::vector<ScoredText> texts_of(const TaskResults& results, std::size_t size, std::size_t variant) {
  std::vector<ScoredText> texts;
  for (std::int64_t i = 0; i < results.keys.count; ++i) {
    texts.push_back(text_of_series(results.keys.kind(), seed_of(results.keys, size, variant), i,
                                   results.keys.sizes[size], results.keys.sizes[size],
                                   results.variants[variant].settings));
  }
  return texts;
}

std::string task_part_name(std::size_t series, std::int64_t size, std::size_t variant) {
  return fmt::format("series {}, size {}, variant {}", series, size, variant);
}

void score_series(TaskResults& results, std::size_t index, const Subject& subject, const CheckpointReader& reader,
                  const MeasurementKeys& keys, const RunDevice& device, KeptParts& parts, ProgressBar& progress) {
  const Options& options = subject.options;
  const LandmarkSpacing landmarks{landmark_every_of(options.model)};
  const RunMesh mesh =
      make_run_mesh(device.world, keys.mesh, keys.sequence, options.model,
                    {1, longest_text(results, landmarks), options.train.precision == PrecisionChoice::bf16 ? 2 : 4});
  if (index == 0 && device.world->rank() == 0 && device.world->size() > 1) say("{}\n", mesh.description);
  Transformer model(options.model, runtime_of(options), mesh.context, *device.backend);
  load_parameters(reader, model);
  results.models[index].parameters = model.parameter_count();
  std::uint64_t done = 0;
  for (const auto& scores : results.scores) done += scores.size() * static_cast<std::uint64_t>(results.keys.count);
  for (std::size_t s = 0; s < results.series.size(); ++s) {
    const Series& series = results.series[s];
    if (series.model != index) continue;
    model.set_attention(series.attention);
    for (std::size_t size = 0; size < results.keys.sizes.size(); ++size) {
      for (std::size_t variant = 0; variant < results.variants.size(); ++variant) {
        const std::vector<ScoredText> texts = texts_of(results, size, variant);
        TaskScore score;
        score.size = results.keys.sizes[size];
        const std::int64_t longest = longest_of(texts, landmarks);
        score.not_measured = why_not_measured(options.model, longest);
        if (score.not_measured.empty()) {
          model.set_position(position_at(series, longest));
          const std::string note = fmt::format("{} {}", series.name, score.size);
          lexring::score(score, model, mesh.context, texts, keys.chunk,
                         {task_part_name(s, score.size, variant), &parts, [&](std::int64_t count) {
                            progress.update(done + static_cast<std::uint64_t>(count), note);
                          }});
        }
        done += static_cast<std::uint64_t>(results.keys.count);
        results.scores[s].push_back(std::move(score));
      }
    }
  }
}

std::string to_table(const TaskResults& results) {
  std::string text = describe_models(results.models);
  text += fmt::format(
      "task {} ({}), {} of each size, seed {}: answers that are right as a whole, with 95 % intervals\n",
      results.keys.task, results.keys.kind().what, counted_with_commas(results.keys.count, "text"), results.keys.seed);
  std::vector<TableLine> lines;
  TableLine& head = lines.emplace_back();
  head.name = std::string(results.keys.kind().unit);
  for (const std::int64_t size : results.keys.sizes) head.texts.push_back(with_commas(size));
  for (std::size_t s = 0; s < results.series.size(); ++s) {
    for (std::size_t variant = 0; variant < results.variants.size(); ++variant) {
      TableLine& line = lines.emplace_back();
      const std::string& at = results.variants[variant].name;
      line.name = at.empty() ? results.series[s].name : variant == 0 ? results.series[s].name + ", " + at : "  " + at;
      for (std::size_t size = 0; size < results.keys.sizes.size(); ++size)
        line.texts.push_back(share_of(results.score(s, size, variant)));
    }
  }
  return text + aligned(lines, results.keys.sizes.size());
}

std::string to_json(const TaskResults& results) {
  using Json = nlohmann::ordered_json;
  Json json = {{"task", results.keys.task}, {"unit", results.keys.kind().unit}, {"texts", results.keys.count},
               {"seed", results.keys.seed}, {"command", results.command},       {"version", results.version},
               {"date", results.date},      {"machine", results.machine},       {"device", results.device},
               {"ranks", results.ranks},    {"models", Json::array()},          {"series", Json::array()}};
  for (const MeasuredModel& m : results.models)
    json["models"].push_back({{"name", m.name},
                              {"checkpoint", m.checkpoint},
                              {"step", m.step},
                              {"positions", m.positions},
                              {"parameters", m.parameters},
                              {"training", m.training},
                              {"precision", m.precision},
                              {"train_length", m.train_length}});
  for (std::size_t s = 0; s < results.series.size(); ++s) {
    Json cells = Json::array();
    for (std::size_t i = 0; i < results.scores[s].size(); ++i) {
      const TaskScore& score = results.scores[s][i];
      const TaskSettings& settings = results.variants[i % results.variants.size()].settings;
      Json cell = {{"size", score.size}};
      if (settings.depth >= 0) cell["depth"] = settings.depth;
      if (results.keys.task == "flip_flop") cell["ignore"] = settings.ignore;
      if (const std::string& name = results.variants[i % results.variants.size()].name; !name.empty())
        cell["variant"] = name;
      if (!score.not_measured.empty()) {
        cell["not_measured"] = score.not_measured;
      } else {
        const Share::Interval interval = score.answers.interval();
        cell.update({{"answers", score.answers.of()},
                     {"right", score.answers.right()},
                     {"share", score.answers.value()},
                     {"low", interval.low},
                     {"high", interval.high},
                     {"bytes", score.bytes.of()},
                     {"right_bytes", score.bytes.right()},
                     {"longest", score.longest},
                     {"text_right", score.text_right},
                     {"text_answers", score.text_answers},
                     {"seconds", score.seconds}});
      }
      cells.push_back(std::move(cell));
    }
    const Series& of = results.series[s];
    Json series = {
        {"name", of.name}, {"model", results.models[of.model].name}, {"pattern", of.attention.pattern->name}};
    for (const auto& [size, value] : sizes_of(of.attention)) series[size] = value;
    series["cells"] = std::move(cells);
    json["series"].push_back(std::move(series));
  }
  return json.dump(1) + "\n";
}

std::string to_csv(const TaskResults& results) {
  std::string text = "model,series,size,variant,texts,answers,right,share,low,high,bytes,right_bytes\n";
  for (std::size_t s = 0; s < results.series.size(); ++s) {
    for (std::size_t i = 0; i < results.scores[s].size(); ++i) {
      const TaskScore& score = results.scores[s][i];
      if (!score.not_measured.empty()) continue;
      const Share::Interval interval = score.answers.interval();
      text += fmt::format("{},{},{},{},{},{},{},{},{},{},{},{}\n",
                          csv_field(results.models[results.series[s].model].name), csv_field(results.series[s].name),
                          score.size, csv_field(results.variants[i % results.variants.size()].name), score.texts,
                          score.answers.of(), score.answers.right(), score.answers.value(), interval.low, interval.high,
                          score.bytes.of(), score.bytes.right());
    }
  }
  return text;
}

}  // namespace lexring
