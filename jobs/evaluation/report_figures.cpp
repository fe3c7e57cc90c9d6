#include "jobs/evaluation/report_figures.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "jobs/evaluation/tables.h"

namespace lexring {
namespace {

/// At most this many averages of neighbours: a long run has more steps than a screen has pixels.
std::vector<TrainingPoint> thinned(const std::vector<TrainingPoint>& points) {
  constexpr std::size_t most = 400;
  if (points.size() <= most) return points;
  std::vector<TrainingPoint> thin;
  for (std::size_t i = 0; i < most; ++i) {
    const std::size_t begin = i * points.size() / most, end = (i + 1) * points.size() / most;
    TrainingPoint mean{points[(begin + end) / 2].step, 0};
    for (std::size_t j = begin; j < end; ++j) mean.loss += points[j].loss / static_cast<double>(end - begin);
    thin.push_back(mean);
  }
  return thin;
}

/// A line for a series, beside the others'.
FigureLine line_of(const EvaluationResults& r, std::size_t i) {
  const double places = static_cast<double>(r.series.size()), apart = std::min(5.0, 24 / places);
  const int colour = colour_of(r, i), dash = static_cast<int>(i);
  return {r.series[i].name, colour, Stroke::bold, dash, (static_cast<double>(i) - (places - 1) / 2) * apart, {}};
}

/// A figure over lengths, with the training length marked.
Figure over_lengths(const EvaluationResults& r, const std::vector<std::int64_t>& lengths) {
  Figure figure;
  figure.x_label = "length of the window, tokens";
  figure.x_scale = Scale::log2;
  for (const std::int64_t length : lengths) {
    figure.x_ticks.push_back(
        {static_cast<double>(length), short_length(length), multiple_of(length, r.train_length())});
  }
  if (r.train_length() > 0) {
    figure.mark_x = static_cast<double>(r.train_length());
    figure.mark_label = "trained here";
  }
  return figure;
}

std::string title_of(const Series& series, const Cell& cell, const EvaluationResults& r) {
  std::string title =
      fmt::format("{} at {}: {}", series.name, format_length(cell.length, r.train_length()), with_error(cell.loss));
  if (cell.difference) {
    title += fmt::format("\n{} against {}", with_error(*cell.difference, Sign::always),
                         with_commas(r.model_of(series).base_length));
  }
  return title;
}

}  // namespace

const Cell* longest_measured(const Series& series) {
  const Cell* longest = nullptr;
  for (const Cell& cell : series.cells) {
    if (cell.measured()) longest = &cell;
  }
  return longest;
}

std::string base_text(const EvaluationResults& r) {
  return r.base_length() > 0 ? with_commas(r.base_length()) + " tokens" : "each model's training length";
}

int colour_of(const EvaluationResults& r, std::size_t series) {
  const std::vector<std::string> known = {"blockwise", "causal", "window", "sink_window", "chunked", "full"};
  std::vector<std::string> patterns;
  for (const Series& one : r.series) patterns.emplace_back(one.attention.pattern->name);
  const auto at = std::find(known.begin(), known.end(), patterns[series]);
  std::sort(patterns.begin(), patterns.end());
  const bool own = std::adjacent_find(patterns.begin(), patterns.end()) == patterns.end() && at != known.end();
  return static_cast<int>(own ? at - known.begin() : static_cast<std::ptrdiff_t>(series)) % 6;
}

Figure loss_by_length_figure(const EvaluationResults& r) {
  Figure figure = over_lengths(r, r.lengths);
  figure.description = "Loss by length of the window, one line per series";
  figure.y_label = "loss, nats per token";
  figure.width = 960;
  for (std::size_t i = 0; i < r.series.size(); ++i) {
    FigureLine line = line_of(r, i);
    for (const Cell& cell : r.series[i].cells) {
      if (cell.measured())
        line.points.push_back(
            {static_cast<double>(cell.length), cell.loss.mean, cell.loss.error, title_of(r.series[i], cell, r)});
    }
    figure.lines.push_back(std::move(line));
  }
  return figure;
}

Figure difference_figure(const EvaluationResults& r) {
  Figure figure = over_lengths(r, r.lengths);
  figure.description = "Difference of the loss to " + base_text(r) + ", paired, one line per series";
  figure.y_label = "loss against " + base_text(r) + ", nats per token";
  figure.width = 960;
  figure.height = 340;
  double smallest = INFINITY, largest = 0;
  for (std::size_t i = 0; i < r.series.size(); ++i) {
    FigureLine line = line_of(r, i);
    for (const Cell& cell : r.series[i].cells) {
      if (!cell.measured()) continue;
      const Estimate d = cell.difference.value_or(Estimate{0, 0, 0});
      line.points.push_back({static_cast<double>(cell.length), d.mean, d.error, title_of(r.series[i], cell, r)});
      if (std::isfinite(d.mean)) largest = std::max(largest, std::abs(d.mean));
      for (const double size : {std::abs(d.mean), d.error}) {
        if (size > 1e-7) smallest = std::min(smallest, size);  // smaller ones are rounding
      }
    }
    figure.lines.push_back(std::move(line));
  }
  if (largest > 20 * smallest) {
    figure.y_scale = Scale::symlog;
    figure.linear_to = std::pow(10.0, std::floor(std::log10(smallest)));
    figure.y_label += " (logarithmic on both sides of 0)";
  }
  return figure;
}

Figure loss_by_position_figure(const EvaluationResults& r) {
  Figure figure;
  figure.description = "Loss by position in the longest window, one line per series";
  figure.x_label = "position in the window, tokens";
  figure.width = 470;
  figure.height = 300;
  figure.y_label = "loss, nats per token";
  figure.x_scale = Scale::log2;
  if (r.train_length() > 0) {
    figure.mark_x = static_cast<double>(r.train_length());
    figure.mark_label = "trained to here";
  }
  for (std::size_t i = 0; i < r.series.size(); ++i) {
    const Cell* cell = longest_measured(r.series[i]);
    if (cell == nullptr) continue;
    FigureLine line = line_of(r, i);
    for (const PositionLoss& p : cell->by_position) {
      if (p.first < first_shown_position && cell->length > 4 * first_shown_position) continue;
      const double middle = std::sqrt(static_cast<double>(p.first + 1) * static_cast<double>(p.last));
      line.points.push_back(
          {middle, p.loss, 0,
           fmt::format("{}, positions {} to {}: {} over {}", r.series[i].name, with_commas(p.first),
                       with_commas(p.last - 1), format_number(p.loss, 4), counted_with_commas(p.tokens, "token"))});
    }
    figure.lines.push_back(std::move(line));
  }
  return figure;
}

Figure training_figure(const std::vector<TrainingCurve>& curves) {
  Figure figure;
  figure.description = "Training loss by step, as measured and smoothed";
  figure.x_label = "step";
  figure.width = 470;
  figure.height = 300;
  figure.y_label = "training loss, nats per token";
  for (std::size_t n = 0; n < curves.size(); ++n) {
    const int number = static_cast<int>(n);
    const auto points = thinned(curves[n].points);
    FigureLine raw{"", number, Stroke::faint, 0, 0, {}};
    FigureLine smooth{curves.size() > 1 ? curves[n].name : "smoothed", number, Stroke::bold, number, 0, {}};
    // A centred mean, narrower towards the ends: it neither lags behind the loss nor bends its ends.
    const std::size_t widest = points.size() / 40;
    for (std::size_t i = 0; i < points.size(); ++i) {
      raw.points.push_back({static_cast<double>(points[i].step), points[i].loss, 0, ""});
      const std::size_t half = std::min({widest, i, points.size() - 1 - i});
      double sum = 0;
      for (std::size_t j = i - half; j <= i + half; ++j) sum += points[j].loss;
      smooth.points.push_back({static_cast<double>(points[i].step), sum / static_cast<double>(2 * half + 1), 0, ""});
    }
    figure.lines.push_back(std::move(raw));
    figure.lines.push_back(std::move(smooth));
  }
  return figure;
}

Figure resolution_figure(const EvaluationResults& r) {
  std::vector<std::int64_t> lengths;
  std::vector<std::string> names;
  for (const Resolution& one : r.resolution) {
    if (std::find(lengths.begin(), lengths.end(), one.length) == lengths.end()) lengths.push_back(one.length);
    if (names.empty() || names.back() != one.name) names.push_back(one.name);
  }
  Figure figure = over_lengths(r, lengths);
  figure.description = "Attention resolution by length: the mean over layers, and each layer where there is one model";
  figure.x_label = "length, tokens";
  figure.width = 470;
  figure.height = 300;
  figure.y_label = "resolution R";
  for (std::size_t layer = 0; names.size() == 1 && layer < r.resolution.front().by_layer.size(); ++layer) {
    FigureLine line{"", 5, Stroke::faint, 0, 0, {}};
    for (const Resolution& one : r.resolution)
      line.points.push_back({static_cast<double>(one.length), one.by_layer[layer], 0, ""});
    figure.lines.push_back(std::move(line));
  }
  for (std::size_t n = 0; n < names.size(); ++n) {
    FigureLine mean{
        names.size() == 1 ? "mean" : names[n], static_cast<int>(n), Stroke::bold, static_cast<int>(n), 0, {}};
    for (const Resolution& one : r.resolution) {
      if (one.name != names[n]) continue;
      mean.points.push_back({static_cast<double>(one.length), one.value, 0,
                             fmt::format("R = {:.3g} at {}", one.value, format_length(one.length, r.train_length()))});
    }
    figure.lines.push_back(std::move(mean));
  }
  return figure;
}

}  // namespace lexring
