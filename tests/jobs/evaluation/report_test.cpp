#include "jobs/evaluation/report.h"

#include <cmath>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "jobs/evaluation/figure.h"
#include "jobs/evaluation/output.h"
#include "jobs/evaluation/records.h"
#include "jobs/evaluation/report_figures.h"
#include "jobs/evaluation/report_page.h"
#include "jobs/evaluation/tables.h"
#include "tests/jobs/evaluation/strict_parser.h"

namespace lexring::testing {
namespace {

/// Six series by twelve lengths, with names that need escaping, cells that are absent and losses that are not numbers.
EvaluationResults awkward_results() {
  EvaluationResults r;
  MeasuredModel model;
  model.name = model.run = "<b>&\"'";
  model.checkpoint = "runs/<&\">/step-1";
  model.positions = "rope";
  model.train_length = 256;
  r.models = {model};
  r.tokens = 1 << 20;
  for (std::int64_t length = 64; length <= 131072; length *= 2) r.lengths.push_back(length);
  prepare_segments(r);
  for (const char* name : {"causal", "blockwise", "window", "sink_window", "a<b", "absent"}) {
    Series series;
    series.name = name;
    series.attention.pattern = named<PatternKind>(name).value_or("causal");
    for (const std::int64_t length : r.lengths) {
      Cell cell;
      cell.length = length;
      cell.tokens = r.tokens;
      if (series.name == "absent" || (series.name == "window" && length > 4096))
        cell.not_measured = "beyond <max_length>";
      const double loss = series.name == "a<b" && length == 512 ? std::nan("")
                          : series.name == "causal"             ? 1 + 0.1 * std::log2(length)
                                                                : 1.5;
      for (std::size_t i = 0; i < r.segment_ends.size(); ++i) {
        cell.segments.nll.push_back(loss * 4096 + static_cast<double>(i % 3));
        cell.segments.tokens.push_back(4096);
      }
      cell.bits_per_byte = series.name == "a<b" ? std::nan("") : 2;
      for (const auto& [first, last] : position_buckets(length)) cell.by_position.push_back({first, last, 10, loss});
      series.cells.push_back(cell);
    }
    r.series.push_back(series);
  }
  r.resolution = {{"", 256, 0.01, {0.01, std::nan("")}}, {"", 512, 0.02, {0.01, 0.03}}};
  summarise(r);
  return r;
}

TEST(Report, IsWellFormedAndNeedsNothingElse) {
  const TempDirectory directory;
  const EvaluationResults r = awkward_results();
  const std::string html = to_html(r, {{"run", {{1, 5.0}, {2, std::nan("")}, {3, 4.0}}}});
  EXPECT_EQ(complaint(directory, "report.html", html), "");
  EXPECT_EQ(complaint(directory, "loss.svg", loss_by_length_svg(r)), "");
  for (const char* foreign : {"http://", "https://", "url(", "@import"})
    EXPECT_EQ(html.find(foreign), std::string::npos) << foreign;
  EXPECT_EQ(html.find("<b>&\""), std::string::npos);
}

TEST(Figure, ALossThatIsNoNumberBreaksTheLine) {
  FigureLine line{"a", 0, Stroke::bold, 0, 0, {}};
  for (const double y : {1.0, 2.0, std::nan(""), 4.0, 5.0})
    line.points.push_back({static_cast<double>(line.points.size()), y, 0, ""});
  Figure figure;
  figure.lines = {line};
  const std::string svg = to_svg(figure);
  const std::size_t begin = svg.find(" d=\"", svg.find("f-line")) + 4, end = svg.find('"', begin);
  const std::string path = svg.substr(begin, end - begin);
  EXPECT_EQ(std::count(path.begin(), path.end(), 'M'), 2) << path;
  EXPECT_EQ(std::count(path.begin(), path.end(), 'L'), 2) << path;
  EXPECT_EQ(svg.find("nan"), std::string::npos) << svg;
  EXPECT_NE(svg.find("×"), std::string::npos) << svg;
}

TEST(Report, OneLengthOnePatternNothingMeasured) {
  const TempDirectory directory;
  EvaluationResults r = awkward_results();
  r.lengths = {64};
  r.resolution.clear();
  r.series = {r.series.back()};
  r.series[0].cells.resize(1);
  summarise(r);
  EXPECT_EQ(complaint(directory, "report.html", to_html(r, {})), "");
  EXPECT_EQ(complaint(directory, "loss.svg", loss_by_length_svg(r)), "");
}

TEST(Report, HeadlinesSayWhatTheNumbersSay) {
  const auto lines = headlines(awkward_results());
  ASSERT_EQ(lines.size(), 3u);  // one for each kind of outcome, not one for each series
  EXPECT_EQ(lines[0].text, "Worse at 512x than at 1x: causal, by 0.9000 ± 0.0000 nats.");
  EXPECT_EQ(lines[0].outcome, "worse");
  EXPECT_EQ(lines[1].text,
            "No clear difference between 512x and 1x: blockwise, +0.0000 ± 0.0000 nats; window (at 16x, the longest it "
            "can be), +0.0000 ± 0.0000 nats; sink_window, +0.0000 ± 0.0000 nats; a<b, +0.0000 ± 0.0000 nats.");
  EXPECT_EQ(lines[2].text, "Not measured at any of these lengths: absent (beyond <max_length>).");
}

/// One model, two series that differ from the base by so much per cluster at the longest length.
EvaluationResults small_differences(const std::vector<double>& one, const std::vector<double>& other) {
  EvaluationResults r = awkward_results();
  r.lengths = {256, 4096};
  r.tokens = 4096 * static_cast<std::int64_t>(one.size());
  r.resolution.clear();
  prepare_segments(r);
  r.series.resize(2);
  for (Series& series : r.series) {
    series.cells.resize(2);
    for (std::size_t length = 0; length < 2; ++length) {
      Cell& cell = series.cells[length];
      cell = Cell();
      cell.length = r.lengths[length];
      for (std::size_t i = 0; i < one.size(); ++i) {
        const double more = length == 0 ? 0 : &series == &r.series[0] ? one[i] : other[i];
        cell.segments.nll.push_back(4096 * (2 + more));
        cell.segments.tokens.push_back(4096);
      }
    }
  }
  summarise(r);
  return r;
}

TEST(Report, SignAndCertaintyOfSmallDifferencesStay) {
  // Means 0.003, errors 0.0001 and 0.004: both far below a hundredth of a nat, and only the first is certain.
  const auto r = small_differences({0.0029, 0.0031, 0.0029, 0.0031}, {0.011, -0.005, 0.009, -0.003});
  const auto lines = headlines(r);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0].text, "Worse at 16x than at 1x: causal, by 0.003000 ± 0.000058 nats.");
  EXPECT_EQ(lines[1].text, "No clear difference between 16x and 1x: blockwise, +0.0030 ± 0.0041 nats.");
  const std::string html = to_html(r, {});
  EXPECT_NE(html.find("<small class=\"worse\">+0.003000 ± 0.000058</small>"), std::string::npos);
  EXPECT_NE(html.find("<small class=\"unclear\">+0.0030 ± 0.0041</small>"), std::string::npos);
}

TEST(Report, DifferencesHaveAPanelOfTheirOwn) {
  // A tenth and a thousandth of a nat in one picture: both, with their error bars, can be told from 0.
  const Figure figure = difference_figure(small_differences({0.09, 0.11, 0.1, 0.1}, {0.0009, 0.0011, 0.001, 0.001}));
  EXPECT_EQ(figure.y_scale, Scale::symlog);
  const std::string svg = to_svg(figure);
  for (const char* tick : {">0<", ">+0.001<", ">+0.01<", ">+0.1<"})
    EXPECT_NE(svg.find(tick), std::string::npos) << tick;
  int bars = 0;
  for (std::size_t at = 0; (at = svg.find("f-error", at + 1)) != std::string::npos;) ++bars;
  EXPECT_EQ(bars, 2);
}

TEST(Report, CurvesThatCoincideAreToldApart) {
  const Figure figure = loss_by_length_figure(small_differences({0.1, 0.2}, {0.1, 0.2}));
  ASSERT_EQ(figure.lines.size(), 2u);
  EXPECT_NE(figure.lines[0].colour, figure.lines[1].colour);
  EXPECT_NE(figure.lines[0].dash, figure.lines[1].dash);
  EXPECT_NE(figure.lines[0].shift, figure.lines[1].shift);
  const std::string svg = to_svg(figure);
  for (const char* name : {">causal<", ">blockwise<"}) EXPECT_NE(svg.find(name), std::string::npos) << name;
  // A pattern has its colour in every report, whichever others are there.
  EvaluationResults swapped = small_differences({0.1, 0.2}, {0.1, 0.2});
  std::swap(swapped.series[0], swapped.series[1]);
  EXPECT_EQ(loss_by_length_figure(swapped).lines[1].colour, figure.lines[0].colour);
}

TEST(Report, WhatWasNotMeasuredHasNoPoint) {
  const Figure figure = loss_by_length_figure(awkward_results());
  EXPECT_EQ(figure.lines[0].points.size(), 12u);
  EXPECT_EQ(figure.lines[2].points.size(), 7u);  // up to 4,096
  EXPECT_TRUE(figure.lines[5].points.empty());
}

TEST(Report, SaysWhatWasMeasured) {
  EvaluationResults r = small_differences({0.1, 0.2}, {0.1, 0.2});
  r.models[0].training = "100 steps of 8 sequences of 256 tokens, learning rate 0.002 (cosine to 5 %), seed 1";
  for (int i = 0; i < 40; ++i) r.data_source += "books/volume-" + std::to_string(i) + ".txt ";
  r.version = "lexring 1.0 (abc123)";
  r.command = "lexring evaluate --checkpoint runs/a";
  const std::string html = to_html(r, {});
  for (const char* said :
       {"(rope): trained at 256 tokens, read at 4,096</h1>", "learning rate 0.002", "books/volume-2.txt and 37 more",
        "lexring 1.0 (abc123)", "lexring evaluate --checkpoint runs/a", "data-length=\"4,096 (16x)\""}) {
    EXPECT_NE(html.find(said), std::string::npos) << said;
  }
  EXPECT_EQ(html.find("volume-30"), std::string::npos);
}

/// Two checkpoints, trained at 256 and at 128 tokens, each with its own base.
TEST(Report, TellsCheckpointsApart) {
  EvaluationResults r = small_differences({0.1, 0.2}, {0.1, 0.2});
  r.models.push_back(r.models[0]);
  r.models[0].name = "rope";
  r.models[1].name = "xpos";
  r.models[1].checkpoint = "runs/xpos/step-2";
  r.models[1].train_length = 128;
  r.models[1].base_length = 128;
  r.series[0].name = "rope, causal";
  r.series[1].name = "xpos, causal";
  r.series[1].model = 1;
  r.resolution = {{"rope", 256, 0.01, {}}, {"rope", 512, 0.02, {}}, {"xpos", 256, 0.03, {}}};
  const TrainingCurve curve{"rope", {{1, 5.0}, {2, 4.0}}}, other{"xpos", {{1, 6.0}, {2, 5.0}}};
  const std::string html = to_html(r, {curve, other});
  for (const char* said : {"rope, xpos: trained at different lengths, read at 4,096</h1>", "2 checkpoints",
                           "<dt>rope</dt>", "<dt>xpos</dt><dd>runs/xpos/step-2, step 0",
                           "Loss minus that of the same series at each model's training length"}) {
    EXPECT_NE(html.find(said), std::string::npos) << said;
  }
  const auto names_of = [](const Figure& figure) {
    std::vector<std::string> names;
    for (const FigureLine& line : figure.lines) names.push_back(line.name);
    return names;
  };
  EXPECT_EQ(names_of(training_figure({curve, other})), (std::vector<std::string>{"", "rope", "", "xpos"}));
  EXPECT_EQ(names_of(training_figure({curve})), (std::vector<std::string>{"", "smoothed"}));
  const Figure resolution = resolution_figure(r);
  EXPECT_EQ(names_of(resolution), (std::vector<std::string>{"rope", "xpos"}));
  EXPECT_EQ(resolution.lines[0].points.size(), 2u);
  EXPECT_EQ(resolution.lines[1].points.size(), 1u);
  EXPECT_NE(to_table(r).find("\nrope:  0.01 at 256  0.02 at 512\nxpos:  0.03 at 256\n"), std::string::npos)
      << to_table(r);
  EXPECT_NE(to_csv(r).find("\n\"xpos, causal\",runs/xpos/step-2,0,"), std::string::npos) << to_csv(r);
}

/// On a narrow page lengths become rows; on paper from four on, and everywhere from seven.
TEST(Report, ATableOfManyColumnsIsTransposed) {
  EXPECT_EQ(stacked_table_style(3).rfind("@media (max-width: ", 0), 0u);
  EXPECT_EQ(stacked_table_style(4).rfind("@media print, (max-width: ", 0), 0u);
  EXPECT_EQ(stacked_table_style(6).rfind("@media print, (max-width: ", 0), 0u);
  EXPECT_EQ(stacked_table_style(7).find("@media"), std::string::npos);
  for (const int columns : {3, 4, 7})
    EXPECT_NE(stacked_table_style(columns).find("content: attr(data-length)"), std::string::npos);
  EXPECT_NE(to_html(awkward_results(), {}).find(stacked_table_style(12)), std::string::npos);
}

TEST(Report, AFileThatCannotBeWrittenIsNotLeftInPart) {
  const TempDirectory directory;
  write_file(directory / "results.csv", "older");
  const OutputDirectory output(directory.path(), {"results.csv"}, Existing::replace);
  // The device that is always full, in the place of the file under way.
  std::filesystem::create_symlink("/dev/full", directory / "results.csv.partial");
  expect_says(error_of([&] { output.write("results.csv", "newer"); }),
              "results.csv cannot be written: No space left on device", "free some space");
  EXPECT_EQ(directory.names(), std::vector<std::string>{"results.csv"});
  EXPECT_EQ(read_file(directory / "results.csv"), "older");
}

TEST(Report, JsonAndCsvHoldEveryCell) {
  const EvaluationResults r = awkward_results();
  const auto json = nlohmann::json::parse(to_json(r));
  ASSERT_EQ(json["series"].size(), 6u);
  EXPECT_EQ(json["series"][0]["cells"].size(), 12u);
  EXPECT_EQ(json["series"][5]["cells"][0]["not_measured"], "beyond <max_length>");
  // What is no number is null, as everywhere.
  for (const char* key : {"loss", "loss_error", "difference", "bits_per_byte"})
    EXPECT_TRUE(json["series"][4]["cells"][3][key].is_null()) << key;
  EXPECT_TRUE(json["resolution"][0]["by_layer"][1].is_null());
  EXPECT_EQ(to_json(r).find("NaN"), std::string::npos);

  std::stringstream csv(to_csv(r));
  int lines = 0;
  for (std::string line; std::getline(csv, line); ++lines) {
    EXPECT_EQ(std::count(line.begin(), line.end(), ','), 25) << line;
    EXPECT_EQ(line.find("nan"), std::string::npos) << line;
    if (lines == 1) {
      EXPECT_EQ(line.rfind("causal,\"runs/<&\"\">/step-1\",0,xpos,none,causal,,,,256,256,64,1048576,1.6", 0), 0u)
          << line;
    }
  }
  EXPECT_EQ(lines, 1 + 6 * 12);
}

/// A pattern has the same colour in every report, unless two series share one.
TEST(Report, PatternsHaveColoursOfTheirOwn) {
  EvaluationResults r = awkward_results();
  r.series.resize(4);
  const auto colours = [&] { return std::vector{colour_of(r, 0), colour_of(r, 1), colour_of(r, 2), colour_of(r, 3)}; };
  EXPECT_EQ(colours(), (std::vector{1, 0, 2, 3}));  // causal, blockwise, window, sink_window
  r.series[3].attention.pattern = "causal";
  EXPECT_EQ(colours(), (std::vector{0, 1, 2, 3}));
}

TEST(Report, TrainingCurvePassesOverWhatIsNotOne) {
  const TempDirectory directory;
  write_file(directory / "metrics.jsonl",
             "{\"step\":1,\"loss\":5}\n{\"step\":2,\"loss\":null}\n{\"step\":3,\"loss\":4,\"skipped\":true}"
             "\nnonsense\n{\"step\":4,\"loss\":3}\n{\"step\":9,\"loss\":2}\n");
  const auto points = read_training_curve(directory / "metrics.jsonl", 8);
  ASSERT_EQ(points.size(), 2u);
  EXPECT_EQ(points[1].step, 4);
  EXPECT_TRUE(read_training_curve(directory / "absent.jsonl", 8).empty());
}

TEST(Figure, TicksAreRoundAndCover) {
  EXPECT_EQ(round_ticks(0.1, 0.9, 5), (std::vector<double>{0, 0.2, 0.4, 0.2 * 3, 0.8, 1.0}));
  EXPECT_EQ(short_length(1 << 20), "1M");
  EXPECT_EQ(short_length(65536), "64k");
  EXPECT_EQ(short_length(4096), "4,096");
}

}  // namespace
}  // namespace lexring::testing
