#include "jobs/evaluation/task_report.h"

#include <fmt/format.h>

#include "jobs/evaluation/figure.h"
#include "jobs/evaluation/heat_map.h"
#include "jobs/evaluation/report_page.h"
#include "jobs/evaluation/tables.h"

namespace lexring {
namespace {

/// Depths are drawn as a map; other variants are lines of their own.
bool has_depths(const TaskResults& r) { return r.variants.size() > 1 && r.variants[0].settings.depth >= 0; }

/// A line of the table and the figure: a series with one variant, or with all its depths.
struct Group {
  std::string name;
  std::size_t series = 0, first = 0, end = 0;  ///< variants [first, end)
};

std::vector<Group> groups(const TaskResults& r) {
  std::vector<Group> all;
  for (std::size_t s = 0; s < r.series.size(); ++s) {
    const std::size_t lines = has_depths(r) ? 1 : r.variants.size();
    for (std::size_t v = 0; v < lines; ++v) {
      const std::string& variant = has_depths(r) ? "" : r.variants[v].name;
      all.push_back({r.series[s].name + (variant.empty() ? "" : ", " + variant), s, v,
                     has_depths(r) ? r.variants.size() : v + 1});
    }
  }
  return all;
}

/// Right answers of all variants of a group; of none where it was not measured.
Share right_of(const TaskResults& r, const Group& group, std::size_t size) {
  Share share;
  for (std::size_t v = group.first; v < group.end; ++v) share += r.score(group.series, size, v).answers;
  return share;
}

std::string percent(const Share& share) {
  const Share::Interval interval = share.interval();
  return fmt::format("{:.1f} % ({:.1f} to {:.1f})", 100 * share.value(), 100 * interval.low, 100 * interval.high);
}

Figure share_figure(const TaskResults& r) {
  Figure figure;
  figure.description = "Share of right answers by size of the text, one line per series";
  figure.x_label = fmt::format("size of the text, {}", r.keys.kind().unit);
  figure.y_label = "right answers, %";
  figure.x_scale = Scale::log2;
  figure.y_includes = {0, 100};
  figure.width = 960;
  for (const std::int64_t size : r.keys.sizes)
    figure.x_ticks.push_back({static_cast<double>(size), short_length(size), ""});
  const std::vector<Group> lines = groups(r);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    FigureLine line{lines[i].name, static_cast<int>(i) % 6, Stroke::bold, static_cast<int>(i) % 4, 0, {}};
    for (std::size_t size = 0; size < r.keys.sizes.size(); ++size) {
      const Share share = right_of(r, lines[i], size);
      if (share.of() == 0) continue;
      const Share::Interval interval = share.interval();
      FigurePoint point{static_cast<double>(r.keys.sizes[size]), 100 * share.value(),
                        100 * (interval.high - share.value()),
                        fmt::format("{} at {}: {}", lines[i].name, with_commas(r.keys.sizes[size]), percent(share))};
      point.error_below = 100 * (share.value() - interval.low);
      line.points.push_back(std::move(point));
    }
    figure.lines.push_back(std::move(line));
  }
  return figure;
}

HeatMap depth_map(const TaskResults& r, std::size_t series) {
  HeatMap map;
  map.description = fmt::format("{}: share of keys found, by depth in the text and size", r.series[series].name);
  map.x_label = fmt::format("size of the text, {}", r.keys.kind().unit);
  map.y_label = "depth of the key; right answers, %";
  for (const std::int64_t size : r.keys.sizes) map.columns.push_back(short_length(size));
  for (std::size_t v = 0; v < r.variants.size(); ++v) {
    map.rows.push_back(fmt::format("{:.0f} %", 100 * r.variants[v].settings.depth));
    auto& row = map.cells.emplace_back();
    for (std::size_t size = 0; size < r.keys.sizes.size(); ++size) {
      const TaskScore& score = r.score(series, size, v);
      HeatCell cell;
      cell.title = fmt::format("{} at {}, {}: ", r.series[series].name, with_commas(score.size), r.variants[v].name);
      if (score.not_measured.empty()) {
        cell.share = score.answers.value();
        cell.title += percent(score.answers);
      } else {
        cell.title += score.not_measured;
      }
      row.push_back(std::move(cell));
    }
  }
  return map;
}

std::string share_table(const TaskResults& r) {
  std::string html = "<table class=\"numbers\">\n<thead><tr><th scope=\"col\">series</th>";
  for (const std::int64_t size : r.keys.sizes) html += fmt::format("<th scope=\"col\">{}</th>", with_commas(size));
  html += "</tr></thead>\n<tbody>\n";
  const std::vector<Group> lines = groups(r);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    html += fmt::format("<tr><th scope=\"row\" class=\"c{}\"><b>{}</b></th>", i % 6, escape(lines[i].name));
    for (std::size_t size = 0; size < r.keys.sizes.size(); ++size) {
      const Share share = right_of(r, lines[i], size);
      html += fmt::format("<td data-length=\"{}\">", with_commas(r.keys.sizes[size]));
      if (share.of() == 0) {
        html += fmt::format("<span class=\"absent\">n/a<small>{}</small></span></td>",
                            escape(r.score(lines[i].series, size, lines[i].first).not_measured));
        continue;
      }
      const Share::Interval interval = share.interval();
      html += fmt::format("<span>{:.1f} %</span><small>{:.1f} to {:.1f}</small></td>", 100 * share.value(),
                          100 * interval.low, 100 * interval.high);
    }
    html += "</tr>\n";
  }
  return html + "</tbody></table>\n";
}

std::string facts(const TaskResults& r) {
  Facts rows;
  for (const MeasuredModel& m : r.models) {
    rows.emplace_back(
        r.models.size() == 1 ? "Checkpoint" : m.name,
        fmt::format("{}, step {}: {} positions; {}; {}; {}; computed in {}", m.checkpoint, with_commas(m.step),
                    m.positions, m.model, counted_with_commas(m.parameters, "parameter"), m.training, m.precision));
  }
  const std::string each = r.variants.size() > 1 ? "size and variant" : "size";
  rows.insert(rows.end(),
              {{"Texts", fmt::format("{} of each {}, seed {}", with_commas(r.keys.count), each, r.keys.seed)},
               {"Computed", fmt::format("{}, {}", r.device, counted_with_commas(r.ranks, "process"))},
               {"Machine", r.machine},
               {"Date", r.date},
               {"Version", r.version},
               {"Command", r.command}});
  return facts_list(rows);
}

}  // namespace

std::vector<std::string> sentences(const TaskResults& r) {
  std::vector<std::string> all;
  for (const Group& group : groups(r)) {
    std::string text;
    const auto add = [&](std::size_t size) {
      const Share share = right_of(r, group, size);
      const std::string unit = text.empty() ? fmt::format(" {}", r.keys.kind().unit) : "";
      text += fmt::format("{}{}{} at {}{}", text.empty() ? "" : ", ", percent(share), text.empty() ? " right" : "",
                          with_commas(r.keys.sizes[size]), unit);
    };
    std::vector<std::size_t> measured;
    for (std::size_t size = 0; size < r.keys.sizes.size(); ++size) {
      if (right_of(r, group, size).of() > 0) measured.push_back(size);
    }
    if (!measured.empty()) add(measured.front());
    if (measured.size() > 1) add(measured.back());
    all.push_back(fmt::format("{}: {}.", group.name, text.empty() ? "not measured" : text));
  }
  return all;
}

std::string to_html(const TaskResults& r) {
  constexpr std::size_t most_sentences = 6;
  const std::string title =
      fmt::format("{}: right answers by {}", r.keys.task, has_depths(r) ? "size and depth" : "size");
  std::string body = fmt::format("<header><p class=\"eyebrow\">lexring · {}</p>\n<h1>{}</h1>\n",
                                 escape(std::string(r.keys.kind().what)), escape(title));
  const std::vector<std::string> lines = sentences(r);
  for (std::size_t i = 0; i < std::min(lines.size(), most_sentences); ++i)
    body += fmt::format("<p class=\"lead unclear\">{}</p>\n", escape(lines[i]));
  body += "</header>\n<main>\n";
  body += card("Right answers by size", at_both_widths(share_figure(r)),
               "An answer is right when every byte of it is the most probable one after all before it. Bars are 95 % "
               "intervals (Wilson).");
  if (has_depths(r)) {
    body += "<div class=\"pair\">\n";
    for (std::size_t s = 0; s < r.series.size(); ++s) {
      body += card(r.series[s].name, to_svg(depth_map(r, s)),
                   "Where the key lies, from the begin of the text (0 %) to its end (100 %).");
    }
    body += "</div>\n";
  }
  body += "<section class=\"card long\"><h2>The numbers</h2>\n" + share_table(r) +
          "<p class=\"caption\">Answers that are right as a whole, with 95 % intervals (Wilson); every cell is in "
          "tasks.csv.</p>\n</section>\n";
  body += "<section class=\"card\"><h2>What was measured</h2>\n" + facts(r) + "</section>\n</main>\n";
  return html_page(title + " · lexring", stacked_table_style(static_cast<int>(r.keys.sizes.size())), body);
}

}  // namespace lexring
