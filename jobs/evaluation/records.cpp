#include "jobs/evaluation/records.h"

#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

namespace lexring {
namespace {

using Json = nlohmann::ordered_json;

// What is no finite number the library writes as null.
Json to_json(const Cell& cell) {
  Json json = {{"length", cell.length}};
  if (!cell.measured()) {
    json["not_measured"] = cell.not_measured;
    return json;
  }
  json["scaling_factor"] = cell.scaling_factor;
  json["loss"] = cell.loss.mean;
  json["loss_error"] = cell.loss.error;
  json["clusters"] = cell.loss.clusters;
  json["perplexity"] = cell.perplexity;
  json["bits_per_byte"] = cell.bits_per_byte;
  if (cell.difference) {
    json["difference"] = cell.difference->mean;
    json["difference_error"] = cell.difference->error;
    json["difference_clusters"] = cell.difference->clusters;
  }
  json["tokens"] = cell.tokens;
  json["not_finite"] = cell.not_finite;
  json["seconds"] = cell.seconds;
  json["tokens_per_second"] = cell.tokens_per_second;
  json["peak_mib"] = cell.peak_mib;
  for (const PositionLoss& p : cell.by_position) {
    json["by_position"].push_back({{"first", p.first}, {"last", p.last}, {"tokens", p.tokens}, {"loss", p.loss}});
  }
  json["segment_nll"] = cell.segments.nll;
  json["segment_tokens"] = cell.segments.tokens;
  return json;
}

Json to_json(const MeasuredModel& m) {
  return {{"name", m.name},
          {"checkpoint", m.checkpoint},
          {"step", m.step},
          {"model", m.model},
          {"positions", m.positions},
          {"parameters", m.parameters},
          {"training", m.training},
          {"precision", m.precision},
          {"train_length", m.train_length},
          {"base_length", m.base_length}};
}

/// What a series is made of; sizes only of the method that has them.
Json method(const Series& s) {
  const AttentionConfig& a = s.attention;
  Json json = {
      {"position", s.position.kind->name}, {"scaling", name_of(s.position.scaling)}, {"pattern", a.pattern->name}};
  for (const auto& [size, value] : sizes_of(a)) json[size] = value;
  if (a.cache_positions) json["cache_positions"] = true;
  if (a.logn_base > 0) json.update({{"logn_base", a.logn_base}, {"logn_clip", a.logn_clip}});
  if (a.temperature != 1) json["temperature"] = a.temperature;
  if (a.floor_scale > 0) json.update({{"floor_scale", a.floor_scale}, {"attn_scale", a.attn_scale}});
  if (a.clamp > AttentionConfig::no_clamp) json["clamp"] = a.clamp;
  return json;
}

std::string field(const std::string& text) { return csv_field(text); }
std::string field(double value) { return std::isfinite(value) ? fmt::format("{}", value) : ""; }
std::string field(std::int64_t value) { return std::to_string(value); }
std::string field(const Json& method, const char* key) {
  return !method.contains(key) ? "" : method[key].is_string() ? method[key].get<std::string>() : method[key].dump();
}

std::vector<std::string> measured_fields(const Cell& c) {
  if (!c.measured()) return std::vector<std::string>(13);
  const Estimate none{NAN, NAN, 0};
  const Estimate& difference = c.difference ? *c.difference : none;
  return {field(c.tokens),         field(c.loss.mean),     field(c.loss.error),        field(difference.mean),
          field(difference.error), field(c.loss.clusters), field(c.perplexity),        field(c.bits_per_byte),
          field(c.not_finite),     field(c.seconds),       field(c.tokens_per_second), field(c.peak_mib),
          field(c.scaling_factor)};
}

}  // namespace

std::vector<std::pair<const char*, std::int64_t>> sizes_of(const AttentionConfig& a) {
  std::vector<std::pair<const char*, std::int64_t>> sizes;
  if (a.pattern->block) sizes.emplace_back("block", a.block);
  if (a.pattern->window) sizes.emplace_back("window", a.window);
  if (a.pattern->sinks) sizes.emplace_back("sinks", a.sinks);
  return sizes;
}

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

std::string to_json(const EvaluationResults& r) {
  Json json = {{"version", r.version},
               {"command", r.command},
               {"date", r.date},
               {"data", r.data},
               {"data_source", r.data_source},
               {"data_hash", r.data_hash},
               {"documents", name_of(r.documents)},
               {"end_of_document", name_of(r.end_of_document)},
               {"objective", name_of(r.objective)},
               {"landmark_every", r.landmark_every},
               {"tokens", r.tokens},
               {"segment_ends", r.segment_ends},
               {"lengths", r.lengths},
               {"device", r.device},
               {"ranks", r.ranks},
               {"machine", r.machine}};
  json["models"] = Json::array();
  for (const MeasuredModel& model : r.models) json["models"].push_back(to_json(model));
  json["series"] = Json::array();
  for (const Series& series : r.series) {
    Json one = {{"name", series.name}, {"model", series.model}};
    one.update(method(series));
    one["cells"] = Json::array();
    for (const Cell& cell : series.cells) one["cells"].push_back(to_json(cell));
    json["series"].push_back(one);
  }
  json["resolution"] = Json::array();
  for (const Resolution& resolution : r.resolution) {
    json["resolution"].push_back({{"name", resolution.name},
                                  {"length", resolution.length},
                                  {"value", resolution.value},
                                  {"by_layer", resolution.by_layer}});
  }
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string to_csv(const EvaluationResults& r) {
  std::string text =
      "series,checkpoint,step,position,scaling,pattern,block,window,sinks,train_length,base_length,length,tokens,loss,"
      "loss_error,difference,difference_error,clusters,perplexity,bits_per_byte,not_finite,seconds,tokens_per_second,"
      "peak_mib,scaling_factor,not_measured\n";
  for (const Series& series : r.series) {
    const MeasuredModel& model = r.model_of(series);
    const Json how = method(series);
    std::vector<std::string> same = {field(series.name), field(model.checkpoint), field(model.step)};
    for (const char* key : {"position", "scaling", "pattern", "block", "window", "sinks"})
      same.push_back(field(how, key));
    for (const std::int64_t length : {model.train_length, model.base_length}) same.push_back(field(length));
    for (const Cell& cell : series.cells) {
      text += fmt::format("{},{},{},{}\n", fmt::join(same, ","), cell.length, fmt::join(measured_fields(cell), ","),
                          field(cell.not_measured));
    }
  }
  return text;
}

}  // namespace lexring
