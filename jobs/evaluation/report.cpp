#include "jobs/evaluation/report.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <sstream>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "jobs/evaluation/report_figures.h"
#include "jobs/evaluation/report_page.h"
#include "jobs/evaluation/tables.h"

namespace lexring {
namespace {

/// "16x", or "4,096 tokens" where it is no round multiple.
std::string place(std::int64_t length, std::int64_t train_length) {
  const std::string multiple = multiple_of(length, train_length);
  return multiple.empty() ? with_commas(length) + " tokens" : multiple;
}

/// "a, b and 3 more".
std::string first_few(const std::vector<std::string>& items, std::size_t most, const char* between) {
  const std::size_t shown = std::min(items.size(), most);
  std::string text =
      fmt::format("{}", fmt::join(items.begin(), items.begin() + static_cast<std::ptrdiff_t>(shown), between));
  return text + (shown < items.size() ? fmt::format(" and {} more", items.size() - shown) : "");
}

const char* css_of(const Estimate& difference) {
  switch (verdict(difference)) {
    case Verdict::better:
      return "better";
    case Verdict::worse:
      return "worse";
    default:
      return "unclear";
  }
}

/// Series as rows and lengths as columns; on a narrow page, or where columns are many, a block for each series with
/// lengths as rows.
std::string loss_table(const EvaluationResults& r) {
  std::string html = "<table class=\"numbers\">\n<thead><tr><th scope=\"col\">series</th>";
  for (const std::int64_t length : r.lengths) {
    html +=
        fmt::format("<th scope=\"col\"{}>{}<small>{}</small></th>", length == r.train_length() ? " class=\"base\"" : "",
                    with_commas(length), multiple_of(length, r.train_length()));
  }
  html += "</tr></thead>\n<tbody>\n";
  for (std::size_t i = 0; i < r.series.size(); ++i) {
    const Series& series = r.series[i];
    const std::string description = describe(series);
    html += fmt::format("<tr><th scope=\"row\" class=\"c{}\"><b>{}</b><small>{}</small></th>", colour_of(r, i),
                        escape(series.name), description == series.name ? "" : escape(description));
    for (const Cell& cell : series.cells) {
      html += fmt::format("<td data-length=\"{}\">", format_length(cell.length, r.train_length()));
      if (!cell.measured()) {
        html += fmt::format("<span class=\"absent\">n/a<small>{}</small></span></td>", escape(cell.not_measured));
        continue;
      }
      html += fmt::format("<span>{}</span>", with_error(cell.loss));
      if (cell.difference)
        html += fmt::format("<small class=\"{}\">{}</small>", css_of(*cell.difference),
                            with_error(*cell.difference, Sign::always));
      if (cell.not_finite > 0)
        html +=
            fmt::format("<small class=\"worse\">{} not finite</small>", counted_with_commas(cell.not_finite, "loss"));
      html += "</td>";
    }
    html += "</tr>\n";
  }
  return html + "</tbody></table>\n";
}

std::string detail_table(const EvaluationResults& r) {
  const bool factors = std::any_of(r.series.begin(), r.series.end(),
                                   [](const Series& s) { return s.position.scaling != Scaling::none; });
  std::vector<std::string> columns = {"series", "length", "perplexity", "bits/byte", "seconds", "tokens/s", "peak MiB"};
  if (factors) columns.emplace_back("factor");
  std::string html = "<div class=\"scroll\"><table class=\"detail\">\n<thead><tr>";
  for (const std::string& column : columns) html += fmt::format("<th scope=\"col\">{}</th>", column);
  html += "</tr></thead>\n<tbody>\n";
  for (const Series& series : r.series) {
    for (const Cell& cell : series.cells) {
      if (!cell.measured()) continue;
      html += fmt::format("<tr><th scope=\"row\">{}</th>", escape(series.name));
      std::vector<std::string> texts = {with_commas(cell.length),
                                        format_number(cell.perplexity, 3),
                                        format_number(cell.bits_per_byte, 4),
                                        format_number(cell.seconds, 1),
                                        with_commas(std::llround(cell.tokens_per_second)),
                                        format_number(cell.peak_mib, 0)};
      if (factors)
        texts.push_back(series.position.scaling == Scaling::none ? "" : fmt::format("{:g}", cell.scaling_factor));
      for (const std::string& text : texts) html += fmt::format("<td>{}</td>", text);
      html += "</tr>\n";
    }
  }
  return html + "</tbody></table></div>\n";
}

void add_models(Facts& rows, const EvaluationResults& r) {
  for (const MeasuredModel& m : r.models) {
    const std::string what =
        fmt::format("{} positions; {}; {}", m.positions, m.model, counted_with_commas(m.parameters, "parameter"));
    if (r.models.size() == 1) {
      rows.insert(
          rows.end(),
          {{"Checkpoint", m.checkpoint}, {"Step", with_commas(m.step)}, {"Model", what}, {"Training", m.training}});
    } else {
      rows.emplace_back(m.name, fmt::format("{}, step {}: {}; {}; computed in {}", m.checkpoint, with_commas(m.step),
                                            what, m.training, m.precision));
    }
  }
}

std::string facts(const EvaluationResults& r) {
  Facts rows;
  add_models(rows, r);
  std::stringstream sources(r.data_source);
  const std::vector<std::string> files{std::istream_iterator<std::string>(sources), {}};
  const std::string precision = r.models.size() == 1 ? ", " + r.models[0].precision : "";
  rows.insert(rows.end(),
              {{"Data", fmt::format("{}, made of {}", r.data, first_few(files, 3, ", "))},
               {"Scored", fmt::format("the first {}, the same for every length and series; {}",
                                      counted_with_commas(r.tokens, "token"), describe_documents(r))},
               {"Computed", fmt::format("{}{}, {}", r.device, precision, counted_with_commas(r.ranks, "process"))},
               {"Machine", r.machine},
               {"Date", r.date}});
  if (!r.version.empty()) rows.emplace_back("Version", r.version);
  rows.emplace_back("Command", r.command);
  return facts_list(rows);
}

/// "quickstart (xpos)"; of several models their names.
std::string subject_of(const EvaluationResults& r) {
  if (r.models.size() == 1) return fmt::format("{} ({})", r.models[0].run, r.models[0].positions);
  std::vector<std::string> names;
  for (const MeasuredModel& model : r.models) names.push_back(model.name);
  return first_few(names, 4, ", ");
}

std::string title_of(const EvaluationResults& r) {
  const std::string longest = r.lengths.empty() ? "" : with_commas(r.lengths.back());
  const std::string trained = r.train_length() > 0 ? with_commas(r.train_length()) + " tokens" : "different lengths";
  return fmt::format("{}: trained at {}, read at {}", subject_of(r), trained, longest);
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

std::vector<Headline> headlines(const EvaluationResults& r) {
  std::vector<std::string> worse, better, unclear, broken, alone, absent;
  const std::int64_t train = r.train_length(), longest = r.lengths.empty() ? 0 : r.lengths.back();
  for (const Series& series : r.series) {
    const Cell* cell = longest_measured(series);
    if (cell == nullptr) {
      absent.push_back(fmt::format("{} ({})", series.name, series.cells.empty() ? "" : series.cells[0].not_measured));
      continue;
    }
    const std::string name =
        series.name +
        (cell->length == longest ? "" : fmt::format(" (at {}, the longest it can be)", place(cell->length, train)));
    if (!std::isfinite(cell->loss.mean)) {
      broken.push_back(name);
    } else if (!cell->difference || !std::isfinite(cell->difference->mean)) {
      alone.push_back(fmt::format("{}, {} nats", name, with_error(cell->loss)));
    } else {
      Estimate size = *cell->difference;
      const Verdict outcome = verdict(size);
      if (outcome == Verdict::unclear) {
        unclear.push_back(fmt::format("{}, {} nats", name, with_error(size, Sign::always)));
      } else {
        size.mean = std::abs(size.mean);
        (outcome == Verdict::worse ? worse : better).push_back(fmt::format("{}, by {} nats", name, with_error(size)));
      }
    }
  }
  std::vector<Headline> all;
  const std::string at = place(longest, train),
                    base = r.base_length() > 0 ? place(r.base_length(), train) : base_text(r);
  const auto add = [&](const char* outcome, const std::string& what, const std::vector<std::string>& items) {
    if (!items.empty()) all.push_back({outcome, fmt::format("{}: {}.", what, first_few(items, 6, "; "))});
  };
  add("worse", fmt::format("Worse at {} than at {}", at, base), worse);
  add("better", fmt::format("Better at {} than at {}", at, base), better);
  add("unclear", fmt::format("No clear difference between {} and {}", at, base), unclear);
  add("worse", fmt::format("Losses that are not finite at {}", at), broken);
  add("unclear", fmt::format("Loss at {}", at), alone);
  add("absent", "Not measured at any of these lengths", absent);
  return all;
}

std::string loss_by_length_svg(const EvaluationResults& results) { return to_svg_file(loss_by_length_figure(results)); }

std::string to_html(const EvaluationResults& r, const std::vector<TrainingCurve>& curves) {
  const std::string title = title_of(r);
  const std::string eyebrow =
      r.models.size() == 1
          ? fmt::format("lexring · {} · {} · step {}", r.models[0].model,
                        counted_with_commas(r.models[0].parameters, "parameter"), with_commas(r.models[0].step))
          : fmt::format("lexring · {} · {}", counted_with_commas(std::ssize(r.models), "checkpoint"),
                        std::to_string(r.series.size()) + " series");
  std::string body = fmt::format("<header><p class=\"eyebrow\">{}</p>\n<h1>{}</h1>\n", escape(eyebrow), escape(title));
  for (const Headline& line : headlines(r))
    body += fmt::format("<p class=\"lead {}\">{}</p>\n", line.outcome, escape(line.text));
  body += "</header>\n<main>\n";
  const std::string clusters =
      fmt::format("clusters of whole windows, of {} tokens or more", with_commas(segment_tokens));
  body += card("Loss by length", at_both_widths(loss_by_length_figure(r)),
               fmt::format("Mean loss over the same {} at every length. Bars are standard errors over {}; they move "
                           "together, so that differences are far more certain: below.",
                           counted_with_commas(r.tokens, "token"), clusters));
  const bool compared = std::any_of(r.series.begin(), r.series.end(), [](const Series& s) {
    return std::any_of(s.cells.begin(), s.cells.end(), [](const Cell& cell) { return cell.difference.has_value(); });
  });
  if (compared) {
    body += card(
        "What length costs", at_both_widths(difference_figure(r)),
        fmt::format(
            "Loss minus that of the same series at {}, paired by cluster, with its own standard error. Above 0: worse.",
            base_text(r)));
  }
  body += "<section class=\"card long\"><h2>The numbers</h2>\n" + loss_table(r) +
          fmt::format(
              "<p class=\"caption\">Nats per token ± standard error over {}. Below or beside it: the difference to {} "
              "± its paired standard error, <span class=\"better\">better</span>, <span class=\"worse\">worse</span>, "
              "or <span class=\"unclear\">not told apart</span> (Student's t at 5 %). ± –: too few windows to "
              "tell.</p>\n</section>\n",
              clusters, base_text(r));
  body += "<div class=\"pair\">\n";
  if (std::any_of(r.series.begin(), r.series.end(),
                  [](const Series& series) { return longest_measured(series) != nullptr; })) {
    body += card(
        "Loss by position", to_svg(loss_by_position_figure(r)),
        fmt::format(
            "Mean loss at each position of the longest window, from position {} on; earlier ones are in results.json.",
            first_shown_position));
  }
  std::vector<TrainingCurve> drawn;
  std::copy_if(curves.begin(), curves.end(), std::back_inserter(drawn),
               [](const TrainingCurve& curve) { return curve.points.size() > 1; });
  if (!drawn.empty()) {
    const std::string how = r.models.size() == 1 ? ": " + r.models[0].training : "";
    body += card("Training", to_svg(training_figure(drawn)), fmt::format("Loss of each step's batch{}.", how));
  }
  if (!r.resolution.empty()) {
    body += card("Attention resolution", to_svg(resolution_figure(r)),
                 "R of Sun et al. (2022), eq. 3, by its literal formula (at most 1): how clearly attention scores tell "
                 "neighbouring distances apart. Faint lines, if any, are layers.");
  }
  body +=
      "</div>\n<section class=\"card long\"><h2>Perplexity, speed and memory</h2>\n" + detail_table(r) + "</section>\n";
  body += "<section class=\"card\"><h2>What was measured</h2>\n" + facts(r) + "</section>\n</main>\n";
  return html_page(title + " · lexring", stacked_table_style(static_cast<int>(r.lengths.size())), body);
}

}  // namespace lexring
