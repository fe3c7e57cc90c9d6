#include "jobs/study/study_tables.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "framework/base/counted.h"
#include "jobs/evaluation/records.h"
#include "jobs/evaluation/tables.h"

namespace lexring {
namespace {

/// What is not measured, once for each reason.
std::string notes(const Study& study, const StudyResults& r) {
  std::string text;
  for (const StudySeries& series : r.series) {
    for (const StudyCell& cell : series.cells) {
      if (!cell.measured() && cell.not_measured != "not evaluated")
        text += fmt::format("n/a: {}, {} at {}: {}\n", study.methods[series.method].label, series.pattern,
                            with_commas(cell.length), cell.not_measured);
    }
  }
  return text;
}

std::string caption(const Study& study, const StudyResults& results) {
  return fmt::format(
      "{} in {}, mean of {}{}; below it the difference to {} under the same pattern, paired by seed and text ± its "
      "standard error over both",
      results.measure.name, results.measure.unit, describe_seeds(study, results),
      study.seeds.size() > 1 ? " ± standard error" : "", study.method(study.baseline).label);
}

/// `text` for LaTeX.
std::string tex(const std::string& text) {
  std::string safe;
  for (const char c : text) {
    if (std::string("&%$#_{}").find(c) != std::string::npos) safe += std::string("\\") + c;
    else if (c == '\\') safe += "\\textbackslash{}";
    else if (c == '~') safe += "\\textasciitilde{}";
    else if (c == '^') safe += "\\textasciicircum{}";
    else safe += c;
  }
  return safe;
}

std::string tex_number(const StudyMeasure& measure, const Estimate& estimate, Sign sign, bool bold) {
  std::string text = short_estimate(measure, estimate, sign);
  const auto at = text.find("±");
  if (at != std::string::npos) text.replace(at, std::string("±").size(), "\\pm");
  return bold ? fmt::format("$\\mathbf{{{}}}$", text) : fmt::format("${}$", text);
}

std::string field(double value) { return std::isfinite(value) ? fmt::format("{}", value) : ""; }

}  // namespace

std::string capital(std::string text) {
  if (!text.empty()) text[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(text[0])));
  return text;
}

std::string describe_seeds(const Study& study, const StudyResults& results) {
  std::size_t least = study.seeds.size(), most = 0;
  for (const StudySeries& series : results.series) {
    for (const StudyCell& cell : series.cells) {
      if (cell.values.empty()) continue;
      least = std::min(least, cell.values.size()), most = std::max(most, cell.values.size());
    }
  }
  const std::string all = counted(std::ssize(study.seeds), "seed");
  if (most == 0 || least == study.seeds.size()) return all;
  return least == most ? fmt::format("{} of {}", least, all) : fmt::format("{} to {} of {}", least, most, all);
}

std::string short_estimate(const StudyMeasure& measure, const Estimate& e, Sign sign) {
  const std::string mean = format_number(e.mean, measure.digits, sign);
  return std::isfinite(e.error) ? mean + " ± " + format_number(e.error, measure.digits) : mean;
}

bool is_best(const StudyResults& r, const StudySeries& series, const StudyCell& cell) {
  if (!cell.measured() || !std::isfinite(cell.value.mean)) return false;
  const auto better = [&](const StudyCell& other) {
    return other.length == cell.length && other.measured() && r.better(other.value.mean, cell.value.mean);
  };
  return std::none_of(r.series.begin(), r.series.end(), [&](const StudySeries& other) {
    return other.pattern == series.pattern && std::any_of(other.cells.begin(), other.cells.end(), better);
  });
}

std::string to_table(const Study& study, const StudyResults& r) {
  std::string text = fmt::format("{}\n{}\n", study.title, caption(study, r));
  std::vector<TableLine> lines = {{"", {}}};
  for (const std::int64_t length : r.lengths) lines[0].texts.push_back(format_length(length, r.train_length));
  const std::vector<std::string> empty(r.lengths.size());
  std::string pattern;
  for (const StudySeries& series : r.series) {
    if (series.pattern != pattern) lines.push_back({pattern = series.pattern, empty});
    TableLine values{"  " + study.methods[series.method].label, {}}, difference{"", {}};
    for (const StudyCell& cell : series.cells) {
      values.texts.push_back(cell.measured() ? short_estimate(r.measure, cell.value) : "n/a");
      difference.texts.push_back(cell.difference ? short_estimate(r.measure, *cell.difference, Sign::always) : "");
    }
    lines.push_back(std::move(values));
    if (difference.texts != empty) lines.push_back(std::move(difference));
  }
  return text + aligned(lines, r.lengths.size()) + notes(study, r);
}

std::string to_markdown(const Study& study, const StudyResults& r) {
  std::string text = fmt::format("# {}\n\n{}.\n", study.title, capital(caption(study, r)));
  std::string pattern;
  for (const StudySeries& series : r.series) {
    if (series.pattern != pattern) {
      pattern = series.pattern;
      std::string head = fmt::format("\n| {} |", pattern), rule = "|---|";
      for (const std::int64_t length : r.lengths) {
        head += fmt::format(" {} |", format_length(length, r.train_length));
        rule += "---|";
      }
      text += head + "\n" + rule + "\n";
    }
    text += fmt::format("| {} |", study.methods[series.method].label);
    for (const StudyCell& cell : series.cells) {
      const std::string value = cell.measured() ? short_estimate(r.measure, cell.value) : "n/a";
      text += is_best(r, series, cell) ? fmt::format(" **{}**", value) : " " + value;
      if (cell.difference) text += fmt::format("<br>{}", short_estimate(r.measure, *cell.difference, Sign::always));
      text += " |";
    }
    text += "\n";
  }
  text += "\n| cost | parameters | training tokens/s | memory, MiB | training, seconds |\n|---|---|---|---|---|\n";
  for (std::size_t m = 0; m < study.methods.size(); ++m) {
    const StudyCost& cost = r.costs[m];
    if (cost.tokens_per_second == 0) continue;
    text += fmt::format("| {} | {} | {} | {:.0f} | {:.0f} |\n", study.methods[m].label, with_commas(cost.parameters),
                        with_commas(std::llround(cost.tokens_per_second)), cost.memory_mib, cost.seconds);
  }
  const std::string unmeasured = notes(study, r);
  return text + (unmeasured.empty() ? "" : "\n" + unmeasured);
}

std::string to_latex(const Study& study, const StudyResults& r) {
  std::string text = fmt::format("% {}\n% {}\n\\begin{{tabular}}{{l{}}}\n\\toprule\n", study.title, caption(study, r),
                                 std::string(r.lengths.size(), 'r'));
  for (const std::int64_t length : r.lengths) text += " & " + with_commas(length);
  text += " \\\\\n";
  std::string pattern;
  for (const StudySeries& series : r.series) {
    if (series.pattern != pattern) {
      pattern = series.pattern;
      text +=
          fmt::format("\\midrule\n\\multicolumn{{{}}}{{l}}{{\\emph{{{}}}}} \\\\\n", r.lengths.size() + 1, tex(pattern));
    }
    std::string values = tex(study.methods[series.method].label), differences;
    bool compared = false;
    for (const StudyCell& cell : series.cells) {
      values += " & ";
      values += cell.measured() ? tex_number(r.measure, cell.value, Sign::minus_only, is_best(r, series, cell)) : "--";
      differences += " & ";
      if (!cell.difference) continue;
      compared = true;
      differences += "\\footnotesize " + tex_number(r.measure, *cell.difference, Sign::always, false);
    }
    text += values + " \\\\\n" + (compared ? differences + " \\\\\n" : "");
  }
  return text + "\\bottomrule\n\\end{tabular}\n";
}

std::string to_csv(const Study& study, const StudyResults& r) {
  std::string text = fmt::format(
      "method,label,pattern,length,seeds,{0},{0}_error,least,most,difference,difference_error,difference_freedom,"
      "perplexity,bits_per_byte,evaluation_tokens_per_second,evaluation_peak_mib,parameters,training_tokens_per_second,"
      "training_memory_mib,training_seconds,not_measured,of_each_seed\n",
      study.task.empty() ? "loss" : "right");
  for (const StudySeries& series : r.series) {
    const StudyMethod& method = study.methods[series.method];
    const StudyCost& cost = r.costs[series.method];
    for (const StudyCell& c : series.cells) {
      const Estimate difference = c.difference.value_or(Estimate{NAN, NAN, 0});
      const double value = c.measured() ? c.value.mean : NAN, perplexity = study.task.empty() ? std::exp(value) : NAN;
      text += fmt::format("{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}\n", csv_field(method.name),
                          csv_field(method.label), csv_field(series.pattern), c.length, c.values.size(), field(value),
                          field(c.measured() ? c.value.error : NAN), field(c.least()), field(c.most()),
                          field(difference.mean), field(difference.error),
                          c.difference ? std::to_string(difference.clusters - 1) : "", field(perplexity),
                          field(c.measured() ? c.bits_per_byte : NAN), field(c.tokens_per_second), field(c.peak_mib),
                          cost.parameters, field(cost.tokens_per_second), field(cost.memory_mib), field(cost.seconds),
                          csv_field(c.not_measured), fmt::join(c.values, " "));
    }
  }
  return text;
}

}  // namespace lexring
