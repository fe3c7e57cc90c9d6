#include "jobs/evaluation/tables.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace lexring {
namespace {

using Json = nlohmann::ordered_json;

Json number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return value;
}

Json to_json(const Cell& cell) {
  Json json = {{"length", cell.length}};
  if (!cell.measured()) {
    json["not_measured"] = cell.not_measured;
    return json;
  }
  json["loss"] = number(cell.loss.mean);
  json["loss_error"] = number(cell.loss.error);
  json["perplexity"] = number(cell.perplexity);
  json["bits_per_byte"] = number(cell.bits_per_byte);
  if (cell.difference) {
    json["difference"] = number(cell.difference->mean);
    json["difference_error"] = number(cell.difference->error);
  }
  json["tokens"] = cell.tokens;
  json["not_finite"] = cell.not_finite;
  json["seconds"] = cell.seconds;
  json["tokens_per_second"] = cell.tokens_per_second;
  json["peak_mib"] = cell.peak_mib;
  for (const PositionLoss& p : cell.by_position) {
    json["by_position"].push_back({{"first", p.first}, {"last", p.last}, {"tokens", p.tokens}, {"loss", number(p.loss)}});
  }
  Json segments = Json::array();
  for (const double nll : cell.segments.nll) segments.push_back(number(nll));
  json["segment_nll"] = segments;
  json["segment_tokens"] = cell.segments.tokens;
  return json;
}

/// A field of CSV: quoted where it must be.
std::string field(const std::string& text) {
  if (text.find_first_of(",\"\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

/// Right-aligned by what is seen: "±" is two bytes and one column.
std::string pad(const std::string& text, std::size_t width) {
  const auto seen = static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
  return std::string(width > seen ? width - seen : 0, ' ') + text;
}

std::string with_error(const Estimate& e, Sign sign) {
  return format_number(e.mean, 4, sign) + " ±" + (std::isnan(e.error) ? std::string("  –   ") : format_number(e.error, 4));
}

constexpr std::size_t name_width = 12, column_width = 19, columns_at_once = 6;

}  // namespace

std::string format_number(double value, int digits, Sign sign) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return sign == Sign::always ? fmt::format("{:+.{}f}", value, digits) : fmt::format("{:.{}f}", value, digits);
}

std::string with_commas(std::int64_t value) {
  std::string digits = std::to_string(value);
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > 0; at -= 3) digits.insert(static_cast<std::size_t>(at), 1, ',');
  return digits;
}

std::string multiple_of(std::int64_t length, std::int64_t train_length) {
  if (train_length <= 0) return "";
  if (length % train_length == 0) return fmt::format("{}x", length / train_length);
  if (4 * length % train_length == 0) return fmt::format("{:g}x", static_cast<double>(length) / static_cast<double>(train_length));
  return "";
}

std::string format_length(std::int64_t length, std::int64_t train_length) {
  const std::string multiple = multiple_of(length, train_length);
  return with_commas(length) + (multiple.empty() ? "" : " (" + multiple + ")");
}

std::string describe_documents(const EvaluationResults& results) {
  return results.documents == "mask" ? "documents masked from each other" : "documents not masked";
}

std::string to_table(const EvaluationResults& r) {
  std::string text = fmt::format(
      "{} at step {} ({} parameters, trained at {} tokens), {} tokens of {}, {}\n"
      "loss in nats per token ± standard error over segments of {} tokens; below it the difference to {} tokens, paired by segment\n",
      r.checkpoint, with_commas(r.step), with_commas(r.parameters), with_commas(r.train_length), with_commas(r.tokens), r.data, describe_documents(r),
      with_commas(segment_tokens), with_commas(r.base_length));
  for (std::size_t begin = 0; begin < r.lengths.size(); begin += columns_at_once) {
    const std::size_t end = std::min(begin + columns_at_once, r.lengths.size());
    const auto line = [&](const std::string& name, const auto& text_of) {
      std::string cells;
      for (std::size_t i = begin; i < end; ++i) cells += pad(text_of(i), column_width);
      std::string whole = fmt::format("{:<{}}{}", name, name_width, cells);
      whole.erase(whole.find_last_not_of(' ') + 1);
      if (!whole.empty()) text += whole + "\n";
    };
    text += "\n";
    line("", [&](std::size_t i) { return format_length(r.lengths[i], r.train_length); });
    for (const PatternRow& row : r.patterns) {
      line(row.name,
           [&](std::size_t i) { return row.cells[i].measured() ? with_error(row.cells[i].loss, Sign::minus_only) : std::string("n/a"); });
      line("", [&](std::size_t i) {
        const Cell& cell = row.cells[i];
        return cell.measured() && cell.difference ? with_error(*cell.difference, Sign::always) : std::string();
      });
      line("  bits/byte",
           [&](std::size_t i) { return row.cells[i].measured() ? format_number(row.cells[i].bits_per_byte, 4) : std::string(); });
      line("  perplexity",
           [&](std::size_t i) { return row.cells[i].measured() ? format_number(row.cells[i].perplexity, 3) : std::string(); });
      line("  tokens/s", [&](std::size_t i) {
        return row.cells[i].measured() ? with_commas(static_cast<std::int64_t>(row.cells[i].tokens_per_second)) : std::string();
      });
    }
  }
  for (const PatternRow& row : r.patterns) {
    for (const Cell& cell : row.cells) {
      if (!cell.measured()) text += fmt::format("n/a: {} at {}: {}\n", row.name, with_commas(cell.length), cell.not_measured);
      if (cell.not_finite > 0) {
        text += fmt::format("{} at {}: {} of {} losses are not finite\n", row.name, with_commas(cell.length), with_commas(cell.not_finite),
                            with_commas(cell.tokens));
      }
    }
  }
  if (!r.resolution.empty()) {
    text += "\nattention resolution R (literal formula, mean over layers):";
    for (const Resolution& resolution : r.resolution)
      text += fmt::format("  {} at {}", fmt::format("{:.3g}", resolution.value), with_commas(resolution.length));
    text += "\n";
  }
  return text;
}

std::string to_json(const EvaluationResults& r) {
  Json json = {{"checkpoint", r.checkpoint},
               {"step", r.step},
               {"model", r.model},
               {"parameters", r.parameters},
               {"data", r.data},
               {"data_source", r.data_source},
               {"data_hash", r.data_hash},
               {"documents", r.documents},
               {"tokens", r.tokens},
               {"segment_tokens", segment_tokens},
               {"train_length", r.train_length},
               {"base_length", r.base_length},
               {"lengths", r.lengths},
               {"device", r.device},
               {"precision", r.precision},
               {"ranks", r.ranks},
               {"machine", r.machine},
               {"date", r.date}};
  json["patterns"] = Json::array();
  for (const PatternRow& row : r.patterns) {
    Json cells = Json::array();
    for (const Cell& cell : row.cells) cells.push_back(to_json(cell));
    json["patterns"].push_back({{"name", row.name}, {"description", row.description}, {"cells", cells}});
  }
  json["resolution"] = Json::array();
  for (const Resolution& resolution : r.resolution) {
    Json layers = Json::array();
    for (const double value : resolution.by_layer) layers.push_back(number(value));
    json["resolution"].push_back({{"length", resolution.length}, {"value", number(resolution.value)}, {"by_layer", layers}});
  }
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string to_csv(const EvaluationResults& r) {
  std::string text =
      "pattern,length,tokens,loss,loss_error,difference,difference_error,perplexity,bits_per_byte,not_finite,seconds,tokens_per_second,"
      "peak_mib,"
      "not_measured\n";
  for (const PatternRow& row : r.patterns) {
    for (const Cell& cell : row.cells) {
      if (!cell.measured()) {
        text += fmt::format("{},{},,,,,,,,,,,,{}\n", field(row.name), cell.length, field(cell.not_measured));
        continue;
      }
      const std::string difference = cell.difference ? fmt::format("{},{}", cell.difference->mean, cell.difference->error) : ",";
      text += fmt::format("{},{},{},{},{},{},{},{},{},{},{},{},\n", field(row.name), cell.length, cell.tokens, cell.loss.mean,
                          cell.loss.error, difference, cell.perplexity, cell.bits_per_byte, cell.not_finite, cell.seconds,
                          cell.tokens_per_second, cell.peak_mib);
    }
  }
  return text;
}

}  // namespace lexring
