#include "jobs/study/study_report.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "framework/base/counted.h"
#include "jobs/evaluation/figure.h"
#include "jobs/evaluation/report_page.h"
#include "jobs/evaluation/tables.h"
#include "jobs/study/method_facts.h"
#include "jobs/study/study_tables.h"

namespace lexring {
namespace {

constexpr std::size_t lines_of_a_figure = 6;  // as many as colours

using Series = std::vector<const StudySeries*>;

std::size_t baseline_of(const Study& study) {
  std::size_t at = 0;
  while (study.methods[at].name != study.baseline) ++at;
  return at;
}

/// The series of a pattern in groups that a figure can tell apart, the baseline in each.
std::vector<Series> groups(const Study& study, const StudyResults& r, const std::string& pattern) {
  const std::size_t baseline = baseline_of(study);
  Series base, others;
  for (const StudySeries& series : r.series) {
    if (series.pattern == pattern) (series.method == baseline ? base : others).push_back(&series);
  }
  const std::size_t room = lines_of_a_figure - base.size();
  const std::size_t count = std::max<std::size_t>(1, (others.size() + room - 1) / room);
  std::vector<Series> all(count, base);
  for (std::size_t i = 0; i < others.size(); ++i) all[i * count / others.size()].push_back(others[i]);
  return all;
}

Figure over_lengths(const StudyResults& r) {
  Figure figure;
  figure.x_label = r.measure.size;
  figure.x_scale = Scale::log2;
  figure.width = 960;
  figure.height = 315;  // two to a printed page
  for (const std::int64_t length : r.lengths)
    figure.x_ticks.push_back({static_cast<double>(length), short_length(length), multiple_of(length, r.train_length)});
  if (r.train_length > 0) {
    figure.mark_x = static_cast<double>(r.train_length);
    figure.mark_label = "trained here";
  }
  return figure;
}

FigureLine line_of(const Study& study, const StudySeries& series, std::size_t place) {
  const int number = static_cast<int>(place);
  return {study.methods[series.method].label, number, Stroke::bold, number, 0, {}};
}

Figure value_figure(const Study& study, const StudyResults& r, const Series& group, const std::string& pattern) {
  Figure figure = over_lengths(r);
  figure.description =
      fmt::format("{} by {} under {} attention, one line per method", capital(r.measure.name), r.measure.size, pattern);
  figure.y_label = fmt::format("{}, {}", r.measure.name, r.measure.unit);
  if (r.measure.more_is_better) figure.y_includes = {0, 100};
  for (std::size_t i = 0; i < group.size(); ++i) {
    FigureLine line = line_of(study, *group[i], i);
    line.band = true;
    for (const StudyCell& cell : group[i]->cells) {
      if (!cell.measured()) continue;
      line.points.push_back({static_cast<double>(cell.length), cell.value.mean, cell.most() - cell.value.mean,
                             fmt::format("{} at {}: {}", line.name, format_length(cell.length, r.train_length),
                                         short_estimate(r.measure, cell.value)),
                             cell.value.mean - cell.least()});
    }
    figure.lines.push_back(std::move(line));
  }
  return figure;
}

Figure difference_figure(const Study& study, const StudyResults& r, const Series& group, const std::string& pattern) {
  Figure figure = over_lengths(r);
  const std::string base = study.method(study.baseline).label;
  figure.description = fmt::format("Difference of {} to {} under {} attention, paired", r.measure.name, base, pattern);
  figure.y_label = fmt::format("{} against {}, {}", r.measure.name, base, r.measure.unit);
  double smallest = INFINITY, largest = 0;
  for (std::size_t i = 0; i < group.size(); ++i) {
    FigureLine line = line_of(study, *group[i], i);
    line.shift = 4 * (static_cast<double>(i) - static_cast<double>(group.size() - 1) / 2);
    for (const StudyCell& cell : group[i]->cells) {
      if (!cell.difference) continue;
      const Estimate& d = *cell.difference;
      line.points.push_back(
          {static_cast<double>(cell.length), d.mean, d.error,
           fmt::format("{} at {}: {} against {}", line.name, format_length(cell.length, r.train_length),
                       short_estimate(r.measure, d, Sign::always), base)});
      if (!std::isfinite(d.mean)) continue;
      largest = std::max(largest, std::abs(d.mean));
      if (std::abs(d.mean) > 1e-4) smallest = std::min(smallest, std::abs(d.mean));
    }
    if (!line.points.empty()) figure.lines.push_back(std::move(line));
  }
  if (!r.measure.more_is_better && largest > 30 * smallest) {
    figure.y_scale = Scale::symlog;
    figure.linear_to = std::pow(10.0, std::floor(std::log10(smallest)));
    figure.y_label += " (logarithmic on both sides of 0)";
  }
  return figure;
}

std::string pattern_cards(const Study& study, const StudyResults& r, const std::string& pattern) {
  std::string html;
  const std::string base = study.method(study.baseline).label;
  const auto all = groups(study, r, pattern);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::string part = all.size() > 1 ? fmt::format(" ({} of {})", i + 1, all.size()) : "";
    html += card(
        fmt::format("{} by {}, {}{}", capital(r.measure.name), study.task.empty() ? "length" : "size", pattern, part),
        at_both_widths(value_figure(study, r, all[i], pattern)),
        fmt::format("Mean over {}; {}{}.", describe_seeds(study, r), r.scored,
                    study.seeds.size() > 1 ? "; the band reaches from the lowest seed to the highest" : ""));
    const Figure differences = difference_figure(study, r, all[i], pattern);
    if (differences.lines.empty()) continue;
    html += card(fmt::format("Against {}, {}{}", base, pattern, part), at_both_widths(differences),
                 fmt::format("{} minus that of {} with the same seed, text, pattern and length. Bars are standard "
                             "errors over seeds and texts. Above 0: {}.",
                             capital(r.measure.name), base, r.measure.more_is_better ? "better" : "worse"));
  }
  return html;
}

const char* css_of(const StudyMeasure& measure, Estimate difference) {
  if (measure.more_is_better) difference.mean = -difference.mean;
  const Verdict way = verdict(difference);
  return way == Verdict::better ? "better" : way == Verdict::worse ? "worse" : "unclear";
}

std::string value_table(const Study& study, const StudyResults& r) {
  std::string html = "<table class=\"numbers\">\n<thead><tr><th scope=\"col\">method</th>";
  for (const std::int64_t length : r.lengths) {
    html +=
        fmt::format("<th scope=\"col\"{}>{}<small>{}</small></th>", length == r.train_length ? " class=\"base\"" : "",
                    with_commas(length), multiple_of(length, r.train_length));
  }
  html += "</tr></thead>\n<tbody>\n";
  for (const StudySeries& series : r.series) {
    html += fmt::format("<tr><th scope=\"row\"><b>{}</b><small>{}</small></th>",
                        escape(study.methods[series.method].label), escape(series.pattern));
    for (const StudyCell& cell : series.cells) {
      html += fmt::format("<td data-length=\"{}\">", format_length(cell.length, r.train_length));
      if (!cell.measured()) {
        html += fmt::format("<span class=\"absent\">n/a<small>{}</small></span></td>", escape(cell.not_measured));
        continue;
      }
      const std::string value = short_estimate(r.measure, cell.value);
      html += is_best(r, series, cell) ? fmt::format("<span><strong>{}</strong></span>", value)
                                       : fmt::format("<span>{}</span>", value);
      if (cell.difference) {
        html += fmt::format("<small class=\"{}\">{}</small>", css_of(r.measure, *cell.difference),
                            short_estimate(r.measure, *cell.difference, Sign::always));
      }
      html += "</td>";
    }
    html += "</tr>\n";
  }
  return html + "</tbody></table>\n";
}

std::string cost_table(const Study& study, const StudyResults& r) {
  std::string html = "<div class=\"scroll\"><table class=\"detail\">\n<thead><tr>";
  for (const char* column : {"method", "parameters", "training, tokens/s", "training, MiB", "training, seconds",
                             "evaluation, tokens/s", "evaluation, MiB in tensors"})
    html += fmt::format("<th scope=\"col\">{}</th>", column);
  html += "</tr></thead>\n<tbody>\n";
  for (std::size_t m = 0; m < study.methods.size(); ++m) {
    const StudyCost& cost = r.costs[m];
    double speed = 0, mib = 0;
    for (const StudySeries& series : r.series) {
      if (series.method != m || series.pattern != r.patterns.front()) continue;
      for (const StudyCell& cell : series.cells) {
        if (!cell.measured()) continue;
        speed = cell.tokens_per_second;  // at the longest
        mib = std::max(mib, cell.peak_mib);
      }
    }
    const bool trained = cost.tokens_per_second > 0;
    const auto rounded = [](double value) { return with_commas(std::llround(value)); };
    html += fmt::format("<tr><th scope=\"row\">{}</th>", escape(study.methods[m].label));
    for (const std::string& text : {with_commas(cost.parameters), trained ? rounded(cost.tokens_per_second) : "",
                                    trained ? rounded(cost.memory_mib) : "", trained ? rounded(cost.seconds) : "",
                                    speed > 0 ? rounded(speed) : "", mib > 0 ? rounded(mib) : ""})
      html += fmt::format("<td>{}</td>", text);
    html += "</tr>\n";
  }
  return html + "</tbody></table></div>\n";
}

/// A method's loss by step, mean over its seeds.
TrainingCurve mean_curve(const std::string& name, const std::vector<TrainingCurve>& seeds) {
  std::map<std::int64_t, std::pair<double, int>> sums;
  for (const TrainingCurve& seed : seeds) {
    for (const TrainingPoint& point : seed.points) {
      sums[point.step].first += point.loss;
      sums[point.step].second += 1;
    }
  }
  TrainingCurve mean{name, {}};
  for (const auto& [step, sum] : sums) mean.points.push_back({step, sum.first / sum.second});
  return mean;
}

std::string training_card(const Study& study, const StudyResults& r) {
  std::string html;
  std::vector<TrainingCurve> curves;
  const auto finish = [&] {
    if (curves.empty()) return;
    Figure figure = training_figure(curves);
    figure.width = 960;
    figure.height = 340;
    html += card("Training", at_both_widths(figure),
                 fmt::format("Loss of each step, mean over {}, as measured and smoothed.", describe_seeds(study, r)));
    curves.clear();
  };
  for (std::size_t m = 0; m < study.methods.size(); ++m) {
    TrainingCurve curve = mean_curve(study.methods[m].label, r.curves[m]);
    if (!curve.points.empty()) curves.push_back(std::move(curve));
    if (curves.size() == lines_of_a_figure) finish();
  }
  finish();
  return html;
}

std::string joined(const KeyTexts& keys, const char* between = "\n") {
  std::vector<std::string> texts;
  for (const auto& [name, value] : keys) texts.push_back(name + " = " + value);
  return fmt::format("{}", fmt::join(texts, between));
}

std::string fact_text(const MethodFact& fact) {
  std::string html;
  if (!fact.formula.empty()) html += fmt::format("<dd class=\"formula\">{}</dd>", escape(fact.formula));
  if (!fact.source.empty()) html += fmt::format("<dd class=\"source\">{}</dd>", escape(fact.source));
  return html;
}

std::string methods_card(const Study& study, const StudyResults& r) {
  std::string html = "<section class=\"card long\"><h2>The methods</h2>\n<dl class=\"methods\">\n";
  for (const StudyMethod& method : study.methods) {
    html += fmt::format("<div><dt>{}</dt>", escape(method.label));
    for (const MethodFact& fact : facts_of(method)) html += fact_text(fact);
    const std::string from = !method.init.empty() ? "begins with the weights of " + method.init + "\n"
                             : !method.checkpoint_of.empty()
                                 ? "another use of the checkpoints of " + method.checkpoint_of + "\n"
                                 : "";
    html += fmt::format("<dd><pre>{}{}</pre></dd></div>\n", escape(from),
                        escape(joined(method.trained() ? method.training : method.evaluation)));
  }
  for (const std::string& pattern : r.patterns) {
    std::string kind = pattern.substr(0, pattern.find_first_of("0123456789"));
    while (kind.ends_with(' ')) kind.pop_back();
    std::replace(kind.begin(), kind.end(), ' ', '_');
    const std::optional<PatternKind> known = named<PatternKind>(kind);
    html += fmt::format("<div><dt>{} attention</dt>{}</div>\n", escape(pattern),
                        known ? fact_text({kind, (*known)->formula, (*known)->source}) : "");
  }
  return html + "</dl></section>\n";
}

std::string leads(const Study& study, const StudyResults& r) {
  std::string html;
  for (const std::string& pattern : r.patterns) {
    const StudySeries* best = nullptr;
    for (const StudySeries& series : r.series) {
      if (series.pattern == pattern && is_best(r, series, series.cells.back())) best = &series;
    }
    if (best == nullptr) continue;
    const StudyCell& cell = best->cells.back();
    std::string text =
        fmt::format("Best at {} with {} attention: {}, {} {}", format_length(cell.length, r.train_length), pattern,
                    study.methods[best->method].label, short_estimate(r.measure, cell.value), r.measure.unit);
    if (cell.difference) {
      text += fmt::format("; {} against {}", short_estimate(r.measure, *cell.difference, Sign::always),
                          study.method(study.baseline).label);
    }
    html += fmt::format("<p class=\"lead\">{}.</p>\n", escape(text));
  }
  return html;
}

constexpr const char* style = R"(
.methods { margin: 0; display: grid; grid-template-columns: repeat(auto-fill, minmax(min(440px, 100%), 1fr));
  gap: 22px 32px; }
.methods > div { break-inside: avoid; min-width: 0; } .methods dt { font-weight: 650; margin-bottom: 2px; }
.methods dd { margin: 0 0 4px; font-size: 14px; overflow-wrap: anywhere; } .methods .source { color: var(--soft);
  font-size: 13px; }
.methods .formula { font-family: "STIX Two Text", "Cambria Math", Cambria, "DejaVu Serif", serif; font-size: 15px; }
.methods pre { margin: 4px 0 0; font: 12.5px/1.45 ui-monospace, "DejaVu Sans Mono", monospace; white-space: pre-wrap;
  color: var(--soft); }
)";

}  // namespace

std::string to_html(const Study& study, const StudyResults& r, const std::string& command) {
  const auto methods = counted(std::ssize(study.methods), "method");
  std::string body = fmt::format(
      "<header><p class=\"eyebrow\">lexring · study · {} · {}{}</p>\n<h1>{}</h1>\n{}</header>\n<main>\n", methods,
      describe_seeds(study, r),
      r.train_length > 0 ? fmt::format(" · trained at {}", counted_with_commas(r.train_length, "token")) : "",
      escape(study.title), leads(study, r));
  for (const std::string& pattern : r.patterns) body += pattern_cards(study, r, pattern);
  body += "<section class=\"card long\"><h2>The numbers</h2>\n" + value_table(study, r) +
          fmt::format(
              "<p class=\"caption\">{}, {}, mean of {}{}; the best of each length and pattern in bold. "
              "Below or beside it: the paired difference to {} ± its standard error over seeds and texts, "
              "<span class=\"better\">better</span>, <span class=\"worse\">worse</span>, or "
              "<span class=\"unclear\">not told apart</span> (Student's t at 5 %).</p>\n</section>\n",
              capital(r.measure.name), r.measure.unit, describe_seeds(study, r),
              study.seeds.size() > 1 ? " ± standard error" : "", escape(study.method(study.baseline).label));
  body += training_card(study, r);
  body += "<section class=\"card long\"><h2>What each method costs</h2>\n" + cost_table(study, r) +
          fmt::format(
              "<p class=\"caption\">Training: median speed of the steps, largest resident memory, mean time. "
              "Evaluation: {} attention, speed at the longest length.</p>\n</section>\n",
              r.patterns.empty() ? "" : escape(r.patterns.front()));
  body += methods_card(study, r);
  body += "<section class=\"card long\"><h2>How it was made</h2>\n" +
          facts_list({{"Data", r.data},
                      {"Scored", r.scored},
                      {"Seeds", fmt::format("{}", fmt::join(study.seeds, ", "))},
                      {"Computed", r.device},
                      {"Machine", r.machine},
                      {"Version", r.version},
                      {"Shared configuration", joined(study.training, ", ")},
                      {"Command", command}}) +
          "</section>\n</main>\n";
  return html_page(study.title, style + stacked_table_style(static_cast<int>(r.lengths.size())), body);
}

}  // namespace lexring
