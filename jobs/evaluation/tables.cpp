#include "jobs/evaluation/tables.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include <fmt/format.h>

#include "framework/base/counted.h"
#include "jobs/evaluation/series.h"
#include "jobs/launch/model_use.h"

namespace lexring {
namespace {

/// By what is seen: "±" is two bytes and one column.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::vector<TableLine> lines_of(const Series& series) {
  std::vector<TableLine> lines;
  const auto add = [&](const std::string& name, const std::function<std::string(const Cell&)>& text_of) {
    TableLine& line = lines.emplace_back(TableLine{name, {}});
    for (const Cell& cell : series.cells) line.texts.push_back(cell.measured() ? text_of(cell) : "");
  };
  add(series.name, [](const Cell& cell) { return with_error(cell.loss); });
  for (std::size_t i = 0; i < series.cells.size(); ++i) {
    if (!series.cells[i].measured()) lines[0].texts[i] = "n/a";
  }
  add("  difference",
      [](const Cell& cell) { return cell.difference ? with_error(*cell.difference, Sign::always) : std::string(); });
  if (series.factor_follows_length)
    add("  factor", [](const Cell& cell) { return fmt::format("{:g}", cell.scaling_factor); });
  add("  bits/byte", [](const Cell& cell) { return format_number(cell.bits_per_byte, 4); });
  add("  perplexity", [](const Cell& cell) { return format_number(cell.perplexity, 3); });
  add("  tokens/s", [](const Cell& cell) { return with_commas(static_cast<std::int64_t>(cell.tokens_per_second)); });
  return lines;
}

std::string heading(const EvaluationResults& r) {
  std::string text = describe_models(r.models);
  text += fmt::format("{} of {}, {}\n", counted_with_commas(r.tokens, "token"), r.data, describe_documents(r));
  for (const Series& series : r.series) {
    if (describe(series) != series.name) text += fmt::format("{}: {}\n", series.name, describe(series));
  }
  const std::string base =
      r.base_length() > 0 ? with_commas(r.base_length()) + " tokens" : "each model's training length";
  return text + fmt::format(
                    "loss in nats per token ± standard error over clusters of whole windows, {} tokens or more; below "
                    "it the difference to {}, paired by cluster\n",
                    with_commas(segment_tokens), base);
}

std::string notes(const EvaluationResults& r) {
  std::string text;
  bool unknown = false;
  for (const Series& series : r.series) {
    for (const Cell& cell : series.cells) {
      if (!cell.measured())
        text += fmt::format("n/a: {} at {}: {}\n", series.name, with_commas(cell.length), cell.not_measured);
      if (cell.not_finite > 0) {
        text += fmt::format("{} at {}: {} of {} not finite\n", series.name, with_commas(cell.length),
                            with_commas(cell.not_finite), counted_with_commas(cell.tokens, "loss"));
      }
      unknown = unknown || (cell.measured() && cell.loss.clusters < 2);
    }
  }
  if (unknown)
    text += "± –: one window holds all tokens, so there is nothing to estimate an error from; score more --tokens\n";
  return text;
}

}  // namespace

std::string aligned(const std::vector<TableLine>& lines, std::size_t columns) {
  constexpr std::size_t wide = 126;
  std::size_t name_width = 0, column_width = 0;
  for (const TableLine& line : lines) {
    name_width = std::max(name_width, width_of(line.name));
    for (const std::string& text : line.texts) column_width = std::max(column_width, width_of(text) + 2);
  }
  const std::size_t at_once = std::max<std::size_t>(1, (wide - std::min(name_width, wide)) / column_width);
  std::string text;
  for (std::size_t begin = 0; begin < columns; begin += at_once) {
    text += "\n";
    for (const TableLine& line : lines) {
      std::string row = line.name + std::string(name_width - width_of(line.name), ' ');
      for (std::size_t i = begin; i < std::min(begin + at_once, columns); ++i) {
        row += std::string(column_width - width_of(line.texts[i]), ' ') + line.texts[i];
      }
      row.erase(row.find_last_not_of(' ') + 1);
      text += row + "\n";
    }
  }
  return text;
}

std::string describe_models(const std::vector<MeasuredModel>& models) {
  std::string text;
  for (const MeasuredModel& m : models) {
    if (models.size() > 1) text += m.name + ": ";
    text += fmt::format("{} at step {} ({}, {} positions, trained at {}), computed in {}\n", m.checkpoint,
                        with_commas(m.step), counted_with_commas(m.parameters, "parameter"), m.positions,
                        counted_with_commas(m.train_length, "token"), m.precision);
  }
  return text;
}

std::string format_number(double value, int digits, Sign sign) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return sign == Sign::always ? fmt::format("{:+.{}f}", value, digits) : fmt::format("{:.{}f}", value, digits);
}

std::string with_error(const Estimate& e, Sign sign) {
  if (!std::isfinite(e.error)) return format_number(e.mean, 4, sign) + " ± –";
  // Two digits of the error, so that neither it nor the sign of a small difference is rounded away.
  const int digits = e.error > 1e-9 ? std::clamp(1 - static_cast<int>(std::floor(std::log10(e.error))), 4, 8) : 4;
  return format_number(e.mean, digits, sign) + " ± " + format_number(e.error, digits);
}

std::string with_commas(std::int64_t value) {
  std::string digits = std::to_string(value);
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > (value < 0 ? 1 : 0); at -= 3)
    digits.insert(static_cast<std::size_t>(at), 1, ',');
  return digits;
}

std::string counted_with_commas(std::int64_t count, std::string_view thing) {
  return with_commas(count) + " " + noun(count, thing);
}

std::string multiple_of(std::int64_t length, std::int64_t train_length) {
  if (train_length <= 0) return "";
  if (length % train_length == 0) return fmt::format("{}x", length / train_length);
  if (4 * length % train_length == 0)
    return fmt::format("{:g}x", static_cast<double>(length) / static_cast<double>(train_length));
  return "";
}

std::string format_length(std::int64_t length, std::int64_t train_length) {
  const std::string multiple = multiple_of(length, train_length);
  return with_commas(length) + (multiple.empty() ? "" : " (" + multiple + ")");
}

std::string describe_documents(const EvaluationResults& results) {
  std::string more;
  if (results.objective == Objective::mlm)
    more = fmt::format("; losses of hidden tokens, {:g} % (mlm)", 100 * results.mlm.share);
  if (results.landmark_every > 0)
    more = fmt::format("; a landmark after every {}, counted in lengths, without a loss",
                       counted_with_commas(results.landmark_every, "token"));
  if (results.documents == Documents::ignore) return "documents not masked" + more;
  return fmt::format("documents masked from each other{}{}",
                     results.end_of_document == EndOfDocument::none ? ", without their ends" : "", more);
}

std::string describe(const Series& series) {
  const std::string pattern = describe(series.attention);
  const bool told = series.position_part.empty() && series.position.scaling == Scaling::none;  // by the model's line
  return told ? pattern : describe_position(series) + "; " + pattern;
}

std::string to_table(const EvaluationResults& r) {
  std::vector<TableLine> lines = {{"", {}}};
  for (const std::int64_t length : r.lengths) lines[0].texts.push_back(format_length(length, r.train_length()));
  for (const Series& series : r.series) {
    const std::vector<TableLine> own = lines_of(series);
    lines.insert(lines.end(), own.begin(), own.end());
  }
  std::string text = heading(r) + aligned(lines, r.lengths.size()) + notes(r);
  if (!r.resolution.empty()) text += "\nattention resolution R (literal formula, mean over layers):\n";
  for (std::size_t i = 0; i < r.resolution.size(); ++i) {
    const Resolution& one = r.resolution[i];
    const bool first = i == 0 || one.name != r.resolution[i - 1].name;
    if (first && !one.name.empty()) text += fmt::format("{}{}:", i == 0 ? "" : "\n", one.name);
    text += fmt::format("  {:.3g} at {}", one.value, with_commas(one.length));
  }
  return text + (r.resolution.empty() ? "" : "\n");
}

}  // namespace lexring
