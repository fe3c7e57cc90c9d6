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

std::string capital(std::string text) {
  if (!text.empty()) text[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(text[0])));
  return text;
}

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
      "loss in nats per token, mean of {}{}; below it the difference to {} under the same pattern, paired by seed and "
      "text ± its standard error over both",
      describe_seeds(study, results), study.seeds.size() > 1 ? " ± standard error" : "",
      study.method(study.baseline).label);
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

std::string tex_number(const Estimate& estimate, Sign sign, bool bold) {
  std::string text = short_estimate(estimate, sign);
  const auto at = text.find("±");
  if (at != std::string::npos) text.replace(at, std::string("±").size(), "\\pm");
  return bold ? fmt::format("$\\mathbf{{{}}}$", text) : fmt::format("${}$", text);
}

std::string field(double value) { return std::isfinite(value) ? fmt::format("{}", value) : ""; }

}  // namespace

std::string describe_seeds(const Study& study, const StudyResults& results) {
  std::size_t least = study.seeds.size(), most = 0;
  for (const StudySeries& series : results.series) {
    for (const StudyCell& cell : series.cells) {
      if (cell.losses.empty()) continue;
      least = std::min(least, cell.losses.size()), most = std::max(most, cell.losses.size());
    }
  }
  const std::string all = counted(std::ssize(study.seeds), "seed");
  if (most == 0 || least == study.seeds.size()) return all;
  return least == most ? fmt::format("{} of {}", least, all) : fmt::format("{} to {} of {}", least, most, all);
}

std::string short_estimate(const Estimate& e, Sign sign) {
  if (!std::isfinite(e.error)) return format_number(e.mean, 4, sign);
  return format_number(e.mean, 4, sign) + " ± " + format_number(e.error, 4);
}

bool is_best(const StudyResults& r, const StudySeries& series, const StudyCell& cell) {
  if (!cell.measured() || !std::isfinite(cell.loss.mean)) return false;
  const auto better = [&](const StudyCell& other) {
    return other.length == cell.length && other.measured() && other.loss.mean < cell.loss.mean;
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
    TableLine loss{"  " + study.methods[series.method].label, {}}, difference{"", {}};
    for (const StudyCell& cell : series.cells) {
      loss.texts.push_back(cell.measured() ? short_estimate(cell.loss) : "n/a");
      difference.texts.push_back(cell.difference ? short_estimate(*cell.difference, Sign::always) : "");
    }
    lines.push_back(std::move(loss));
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
      const std::string loss = cell.measured() ? short_estimate(cell.loss) : "n/a";
      text += is_best(r, series, cell) ? fmt::format(" **{}**", loss) : " " + loss;
      if (cell.difference) text += fmt::format("<br>{}", short_estimate(*cell.difference, Sign::always));
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
    std::string losses = tex(study.methods[series.method].label), differences;
    bool compared = false;
    for (const StudyCell& cell : series.cells) {
      losses += " & " + (cell.measured() ? tex_number(cell.loss, Sign::minus_only, is_best(r, series, cell)) : "--");
      differences += " & ";
      if (!cell.difference) continue;
      compared = true;
      differences += "\\footnotesize " + tex_number(*cell.difference, Sign::always, false);
    }
    text += losses + " \\\\\n" + (compared ? differences + " \\\\\n" : "");
  }
  return text + "\\bottomrule\n\\end{tabular}\n";
}

std::string to_csv(const Study& study, const StudyResults& r) {
  std::string text =
      "method,label,pattern,length,seeds,loss,loss_error,least,most,difference,difference_error,difference_freedom,"
      "perplexity,bits_per_byte,evaluation_tokens_per_second,evaluation_peak_mib,parameters,training_tokens_per_second,"
      "training_memory_mib,training_seconds,not_measured,losses\n";
  for (const StudySeries& series : r.series) {
    const StudyMethod& method = study.methods[series.method];
    const StudyCost& cost = r.costs[series.method];
    for (const StudyCell& c : series.cells) {
      const Estimate difference = c.difference.value_or(Estimate{NAN, NAN, 0});
      const double loss = c.measured() ? c.loss.mean : NAN;
      text += fmt::format("{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}\n", csv_field(method.name),
                          csv_field(method.label), csv_field(series.pattern), c.length, c.losses.size(), field(loss),
                          field(c.measured() ? c.loss.error : NAN), field(c.least()), field(c.most()),
                          field(difference.mean), field(difference.error),
                          c.difference ? std::to_string(difference.clusters - 1) : "", field(std::exp(loss)),
                          field(c.measured() ? c.bits_per_byte : NAN), field(c.tokens_per_second), field(c.peak_mib),
                          cost.parameters, field(cost.tokens_per_second), field(cost.memory_mib), field(cost.seconds),
                          csv_field(c.not_measured), fmt::join(c.losses, " "));
    }
  }
  return text;
}

}  // namespace lexring
