#include "jobs/evaluation/report_figures.h"

#include <algorithm>
#include <cctype>
#include <cmath>

#include <fmt/format.h>

#include "jobs/evaluation/tables.h"

namespace lexring {
namespace {

std::string capital(std::string text) {
  if (!text.empty()) text[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(text[0])));
  return text;
}

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

}  // namespace

std::string title_of(const Series& row) {
  std::string name = capital(row.name);
  std::replace(name.begin(), name.end(), '_', ' ');
  return name;
}

const Cell* longest_measured(const Series& row) {
  const Cell* longest = nullptr;
  for (const Cell& cell : row.cells) {
    if (cell.measured()) longest = &cell;
  }
  return longest;
}

int colour_of(const EvaluationResults& r, std::size_t row) {
  const std::vector<std::string> known = {"blockwise", "causal", "window", "sink_window"};
  const auto at = std::find(known.begin(), known.end(), r.series[row].attention.pattern);
  return static_cast<int>(at != known.end() ? at - known.begin() : static_cast<std::ptrdiff_t>(known.size() + row)) % 6;
}

Figure loss_by_length_figure(const EvaluationResults& r) {
  Figure figure;
  figure.description = "Loss by length of the window, one line per attention pattern";
  figure.x_label = "length of the window, tokens";
  figure.y_label = "loss, nats per token";
  figure.width = 960;
  figure.x_scale = Scale::log2;
  for (const std::int64_t length : r.lengths) {
    figure.x_ticks.push_back({static_cast<double>(length), short_length(length), multiple_of(length, r.train_length())});
  }
  figure.mark_x = static_cast<double>(r.train_length());
  figure.mark_label = "trained here";
  for (std::size_t i = 0; i < r.series.size(); ++i) {
    FigureLine line{title_of(r.series[i]), colour_of(r, i), Stroke::bold, {}};
    for (const Cell& cell : r.series[i].cells) {
      if (!cell.measured()) continue;
      std::string title =
          fmt::format("{} at {}: {}", describe(r.series[i]), format_length(cell.length, r.train_length()), with_error(cell.loss));
      if (cell.difference)
        title += fmt::format("\n{} against {}", with_error(*cell.difference, Sign::always), with_commas(r.base_length()));
      line.points.push_back({static_cast<double>(cell.length), cell.loss.mean, cell.loss.error, title});
    }
    figure.lines.push_back(std::move(line));
  }
  return figure;
}

Figure loss_by_position_figure(const EvaluationResults& r) {
  Figure figure;
  figure.description = "Loss by position in the longest window, one line per attention pattern";
  figure.x_label = "position in the window, tokens";
  figure.width = 470;
  figure.height = 300;
  figure.y_label = "loss, nats per token";
  figure.x_scale = Scale::log2;
  figure.mark_x = static_cast<double>(r.train_length());
  figure.mark_label = "trained to here";
  for (std::size_t i = 0; i < r.series.size(); ++i) {
    FigureLine line{title_of(r.series[i]), colour_of(r, i), Stroke::bold, {}};
    const Cell* cell = longest_measured(r.series[i]);
    if (cell == nullptr) continue;
    for (const PositionLoss& p : cell->by_position) {
      if (p.first < first_shown_position && cell->length > 4 * first_shown_position) continue;
      const double middle = std::sqrt(static_cast<double>(p.first + 1) * static_cast<double>(p.last));
      line.points.push_back({middle, p.loss, 0,
                             fmt::format("{}, positions {} to {}: {} over {} tokens", r.series[i].name, with_commas(p.first),
                                         with_commas(p.last - 1), format_number(p.loss, 4), with_commas(p.tokens))});
    }
    figure.lines.push_back(std::move(line));
  }
  return figure;
}

Figure training_figure(const std::vector<TrainingPoint>& all) {
  const auto points = thinned(all);
  Figure figure;
  figure.description = "Training loss by step, as measured and smoothed";
  figure.x_label = "step";
  figure.width = 470;
  figure.height = 300;
  figure.y_label = "training loss, nats per token";
  figure.label_room = 78;
  FigureLine raw{"", 0, Stroke::faint, {}}, smooth{"smoothed", 0, Stroke::bold, {}};
  // A centred mean, narrower towards the ends: it neither lags behind the loss nor bends its ends.
  const std::size_t widest = points.size() / 40;
  for (std::size_t i = 0; i < points.size(); ++i) {
    raw.points.push_back({static_cast<double>(points[i].step), points[i].loss, 0, ""});
    const std::size_t half = std::min({widest, i, points.size() - 1 - i});
    double sum = 0;
    for (std::size_t j = i - half; j <= i + half; ++j) sum += points[j].loss;
    smooth.points.push_back({static_cast<double>(points[i].step), sum / static_cast<double>(2 * half + 1), 0, ""});
  }
  figure.lines = {raw, smooth};
  return figure;
}

Figure resolution_figure(const EvaluationResults& r) {
  Figure figure;
  figure.description = "Attention resolution by length: the mean over layers, and each layer";
  figure.x_label = "length, tokens";
  figure.width = 470;
  figure.height = 300;
  figure.y_label = "resolution R";
  figure.x_scale = Scale::log2;
  figure.mark_x = static_cast<double>(r.train_length());
  figure.mark_label = "trained here";
  figure.label_room = 92;
  const std::size_t layers = r.resolution.front().by_layer.size();
  for (std::size_t n = 0; n < layers; ++n) {
    FigureLine line{"", 5, Stroke::faint, {}};
    for (const Resolution& point : r.resolution) line.points.push_back({static_cast<double>(point.length), point.by_layer[n], 0, ""});
    figure.lines.push_back(std::move(line));
  }
  FigureLine mean{"mean", 0, Stroke::bold, {}};
  for (const Resolution& point : r.resolution) {
    figure.x_ticks.push_back({static_cast<double>(point.length), short_length(point.length), multiple_of(point.length, r.train_length())});
    mean.points.push_back({static_cast<double>(point.length), point.value, 0,
                           fmt::format("R = {} at {}", fmt::format("{:.3g}", point.value), format_length(point.length, r.train_length()))});
  }
  figure.lines.push_back(std::move(mean));
  return figure;
}

}  // namespace lexring
