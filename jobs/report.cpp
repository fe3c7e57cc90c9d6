#include "jobs/report.h"

#include <algorithm>
#include <cmath>
#include <fstream>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "jobs/evaluation/report_figures.h"
#include "jobs/evaluation/tables.h"
#include "jobs/report_page.h"

namespace lexring {
namespace {

constexpr double no_worse = 0.01;  // nats: a difference that nobody would act on

/// "16x the training length", or "4,096 tokens" where it is no round multiple.
std::string place(std::int64_t length, std::int64_t train_length) {
  const std::string multiple = multiple_of(length, train_length);
  return multiple.empty() ? with_commas(length) + " tokens" : multiple + " the training length";
}

std::string short_place(std::int64_t length, std::int64_t train_length) {
  const std::string multiple = multiple_of(length, train_length);
  return multiple.empty() ? with_commas(length) + " tokens" : multiple;
}

/// Enough digits for a difference to be seen, no more than it deserves.
std::string nats(double value) {
  const double size = std::max(std::abs(value), 0.0001);
  return fmt::format("{:.{}f} nats", size, size >= 0.0995 ? 2 : size >= 0.001 ? 3 : 4);
}

const char* old_verdict(const Cell& cell) {
  if (!cell.difference) return "";
  if (!std::isfinite(cell.difference->mean)) return "worse";
  const double noise = std::isfinite(cell.difference->error) ? 2 * cell.difference->error : 0;
  if (cell.difference->mean > std::max(no_worse, noise)) return "worse";
  return cell.difference->mean < -std::max(no_worse, noise) ? "better" : "same";
}

std::string loss_table(const EvaluationResults& r) {
  std::string html = "<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">attention</th>";
  for (const std::int64_t length : r.lengths) {
    html += fmt::format("<th scope=\"col\"{}>{}<small>{}</small></th>", length == r.train_length() ? " class=\"base\"" : "",
                        with_commas(length), multiple_of(length, r.train_length()));
  }
  html += "</tr></thead>\n<tbody>\n";
  for (std::size_t i = 0; i < r.series.size(); ++i) {
    const Series& row = r.series[i];
    html += fmt::format("<tr><th scope=\"row\" class=\"c{}\"><b>{}</b><small>{}</small></th>", colour_of(r, i), escape(title_of(row)),
                        describe(row) == row.name ? "" : escape(describe(row)));
    for (const Cell& cell : row.cells) {
      if (!cell.measured()) {
        html += fmt::format("<td class=\"absent\">n/a<small>{}</small></td>", escape(cell.not_measured));
        continue;
      }
      html += fmt::format("<td>{}", format_number(cell.loss.mean, 4));
      if (std::isfinite(cell.loss.error)) html += fmt::format("<i> ± {}</i>", format_number(cell.loss.error, 4));
      if (cell.difference)
        html += fmt::format("<small class=\"{}\">{}</small>", old_verdict(cell), with_error(*cell.difference, Sign::always));
      if (cell.not_finite > 0) html += fmt::format("<small class=\"worse\">{} losses not finite</small>", with_commas(cell.not_finite));
      html += "</td>";
    }
    html += "</tr>\n";
  }
  return html + "</tbody></table></div>\n";
}

std::string detail_table(const EvaluationResults& r) {
  std::string html =
      "<div class=\"scroll\"><table class=\"detail\">\n<thead><tr><th scope=\"col\">attention</th><th scope=\"col\">length</th><th "
      "scope=\"col\">perplexity</th>"
      "<th scope=\"col\">bits per byte</th><th scope=\"col\">seconds</th><th scope=\"col\">tokens/s</th><th scope=\"col\">peak "
      "MiB</th></tr></thead>\n<tbody>\n";
  for (const Series& row : r.series) {
    for (const Cell& cell : row.cells) {
      if (!cell.measured()) continue;
      html +=
          fmt::format("<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                      escape(row.name), with_commas(cell.length), format_number(cell.perplexity, 3), format_number(cell.bits_per_byte, 4),
                      format_number(cell.seconds, 1), with_commas(std::llround(cell.tokens_per_second)), format_number(cell.peak_mib, 0));
    }
  }
  return html + "</tbody></table></div>\n";
}

std::string card(const std::string& title, const std::string& svg, const std::string& caption) {
  return fmt::format("<figure class=\"card\"><h2>{}</h2>\n{}<figcaption>{}</figcaption></figure>\n", escape(title), svg, escape(caption));
}

std::string facts(const EvaluationResults& r) {
  const std::vector<std::pair<const char*, std::string>> rows = {
      {"Checkpoint", r.models[0].checkpoint},
      {"Step", with_commas(r.models[0].step)},
      {"Model", fmt::format("{}; {}", r.models[0].model, counted(r.models[0].parameters, "parameter"))},
      {"Trained at", with_commas(r.train_length()) + " tokens"},
      {"Data", fmt::format("{} ({})", r.data, r.data_source)},
      {"Scored", fmt::format("the first {} tokens, the same for every length; {}", with_commas(r.tokens), describe_documents(r))},
      {"Computed", fmt::format("{}, {}, {} {}", r.device, r.models[0].precision, r.ranks, r.ranks == 1 ? "process" : "processes")},
      {"Machine", r.machine},
      {"Date", r.date}};
  std::string html = "<dl class=\"facts\">\n";
  for (const auto& [name, value] : rows) html += fmt::format("<div><dt>{}</dt><dd>{}</dd></div>\n", name, escape(value));
  return html + "</dl>\n";
}

}  // namespace

std::vector<TrainingPoint> read_training_curve(const std::filesystem::path& metrics, std::int64_t last_step) {
  std::vector<TrainingPoint> points;
  std::ifstream stream(metrics);
  for (std::string line; std::getline(stream, line);) {
    const auto json = nlohmann::json::parse(line, nullptr, false);
    if (!json.is_object() || !json.contains("step") || !json["step"].is_number_integer()) continue;
    if (!json.contains("loss") || !json["loss"].is_number()) continue;
    if (json.contains("skipped") && json["skipped"].is_boolean() && json["skipped"].get<bool>()) continue;
    const auto step = json["step"].get<std::int64_t>();
    if (step <= last_step) points.push_back({step, json["loss"].get<double>()});
  }
  return points;
}

std::vector<std::string> headlines(const EvaluationResults& r) {
  std::vector<std::string> sentences;
  for (const Series& row : r.series) {
    const Cell* cell = longest_measured(row);
    const std::string name = title_of(row) + " attention";
    if (cell == nullptr) {
      sentences.push_back(
          fmt::format("{} could not be measured at any of these lengths: {}.", name, row.cells.empty() ? "" : row.cells[0].not_measured));
      continue;
    }
    const std::string at = place(cell->length, r.train_length()), base = short_place(r.base_length(), r.train_length());
    if (!std::isfinite(cell->loss.mean)) {
      sentences.push_back(fmt::format("{} gives losses that are not finite at {}.", name, at));
    } else if (!cell->difference || !std::isfinite(cell->difference->mean)) {
      sentences.push_back(fmt::format("{} has a loss of {} at {}.", name, nats(cell->loss.mean), at));
    } else {
      const double difference = cell->difference->mean;
      const std::string kind = old_verdict(*cell);
      if (kind == "worse")
        sentences.push_back(fmt::format("{} loses {} at {} against {}.", name, nats(difference), at, base));
      else if (kind == "better")
        sentences.push_back(fmt::format("{} gains {} at {} over {}.", name, nats(difference), at, base));
      else
        sentences.push_back(fmt::format("{} keeps the loss at {} within {} of {}.", name, at, nats(difference), base));
    }
    if (const Cell& last = row.cells.back(); !last.measured()) {
      sentences.back() += fmt::format(" Longer windows are not measured: {}.", last.not_measured);
    }
  }
  return sentences;
}

std::string loss_by_length_svg(const EvaluationResults& results) { return to_svg_file(loss_by_length_figure(results)); }

std::string to_html(const EvaluationResults& r, const std::vector<TrainingCurve>& training) {
  const std::string longest = r.lengths.empty() ? "" : with_commas(r.lengths.back());
  const std::string title = fmt::format("Trained at {} tokens, read at {}", with_commas(r.train_length()), longest);
  std::string body = fmt::format("<header><p class=\"eyebrow\">lexring · {} · step {}</p>\n<h1>{}</h1>\n", escape(r.models[0].run),
                                 with_commas(r.models[0].step), escape(title));
  for (const std::string& sentence : headlines(r)) body += fmt::format("<p class=\"lead\">{}</p>\n", escape(sentence));
  body += "</header>\n<main>\n";
  body += card("Loss by length", "<div class=\"scroll wide\">\n" + to_svg(loss_by_length_figure(r)) + "</div>\n",
               fmt::format("Mean loss over the same {} tokens at every length. Bars are standard errors over segments of {} tokens; they "
                           "move together, so the "
                           "paired differences in the table are far more certain.",
                           with_commas(r.tokens), with_commas(segment_tokens)));
  body += "<section class=\"card\"><h2>The numbers</h2>\n" + loss_table(r) +
          fmt::format(
              "<p class=\"caption\">Nats per token ± standard error. Below: difference to {} tokens under the same attention ± its paired "
              "standard error. "
              "<span class=\"better\">Better</span>, <span class=\"same\">within noise or {} nats</span>, <span "
              "class=\"worse\">worse</span>.</p>\n",
              with_commas(r.base_length()), no_worse) +
          "<details><summary>Perplexity, bits per byte, speed and memory</summary>\n" + detail_table(r) + "</details></section>\n";
  body += "<div class=\"pair\">\n";
  const bool any =
      std::any_of(r.series.begin(), r.series.end(), [](const Series& row) { return longest_measured(row) != nullptr; });
  if (any) {
    body += card("Loss by position", to_svg(loss_by_position_figure(r)),
                 fmt::format("Mean loss at each position of the longest window, from position {} on; earlier ones are in results.json.",
                             first_shown_position));
  }
  if (!training.empty() && training[0].points.size() > 1) {
    body += card("Training", to_svg(training_figure(training[0].points)),
                 fmt::format("Loss of each step's batch at {} tokens.", with_commas(r.train_length())));
  }
  if (!r.resolution.empty()) {
    body += card("Attention resolution", to_svg(resolution_figure(r)),
                 "R of Sun et al. (2022), eq. 3, by its literal formula (at most 1): how clearly attention scores tell neighbouring "
                 "distances apart. Faint lines are layers.");
  }
  body += "</div>\n<section class=\"card\"><h2>What was measured</h2>\n" + facts(r) + "</section>\n</main>\n";
  return html_page(title + " · lexring", body);
}

}  // namespace lexring
