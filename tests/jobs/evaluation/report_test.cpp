#include "jobs/report.h"

#include <cmath>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "jobs/evaluation/figure.h"
#include "jobs/evaluation/records.h"
#include "jobs/evaluation/tables.h"
#include "tests/datasets/support.h"
#include "tests/support/process.h"

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
    series.name = series.attention.pattern = name;
    for (const std::int64_t length : r.lengths) {
      Cell cell;
      cell.length = length;
      cell.tokens = r.tokens;
      if (series.name == "absent" || (series.name == "window" && length > 4096)) cell.not_measured = "beyond <max_length>";
      const double loss = series.name == "a<b" && length == 512 ? std::nan("") : series.name == "causal" ? 1 + 0.1 * std::log2(length) : 1.5;
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

/// What a strict parser says of a file; empty: nothing to complain about.
std::string complaint(const TempDirectory& directory, const std::string& name, const std::string& text) {
  write_file(directory / name, text);
  write_file(directory / "check.py", R"(
import sys, html.parser, xml.etree.ElementTree as tree
text = open(sys.argv[1], encoding='utf-8').read()
void = {'meta', 'link', 'br', 'hr', 'img', 'input'}
class Check(html.parser.HTMLParser):
    def __init__(self):
        super().__init__(); self.open = []; self.seen = 0
    def handle_starttag(self, tag, attrs):
        self.seen += 1
        names = [n for n, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        assert tag not in ('script', 'link', 'iframe', 'img'), tag
        for n, v in attrs: assert n not in ('src', 'href'), (n, v)
        if tag not in void: self.open.append(tag)
    def handle_startendtag(self, tag, attrs): self.seen += 1
    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, (tag, self.getpos(), self.open)
        self.open.pop()
if sys.argv[1].endswith('.svg'):
    tree.fromstring(text)
else:
    check = Check(); check.feed(text); check.close()
    assert not check.open and check.seen > 50, (check.open, check.seen)
    at = 0
    while (at := text.find('<svg', at)) >= 0:
        end = text.index('</svg>', at) + 6
        tree.fromstring(text[at:end]); at = end
)");
  const ProcessResult result = run_process("python3 " + (directory / "check.py").string() + " " + (directory / name).string());
  return result.exit_code == 0 ? "" : result.output + " (exit " + std::to_string(result.exit_code) + ")";
}

TEST(Report, IsWellFormedAndNeedsNothingElse) {
  const TempDirectory directory;
  const EvaluationResults r = awkward_results();
  const std::string html = to_html(r, {{"run", {{1, 5.0}, {2, std::nan("")}, {3, 4.0}}}});
  EXPECT_EQ(complaint(directory, "report.html", html), "");
  EXPECT_EQ(complaint(directory, "loss.svg", loss_by_length_svg(r)), "");
  for (const char* foreign : {"http://", "https://", "url(", "@import"}) EXPECT_EQ(html.find(foreign), std::string::npos) << foreign;
  EXPECT_EQ(html.find("<b>&\""), std::string::npos);
}

TEST(Figure, ALossThatIsNoNumberBreaksTheLine) {
  FigureLine line{"a", 0, Stroke::bold, {}};
  for (const double y : {1.0, 2.0, std::nan(""), 4.0, 5.0}) line.points.push_back({static_cast<double>(line.points.size()), y, 0, ""});
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
  ASSERT_EQ(lines.size(), 6u);
  EXPECT_EQ(lines[0], "Causal attention loses 0.90 nats at 512x the training length against 1x.");
  EXPECT_EQ(lines[1], "Blockwise attention keeps the loss at 512x the training length within 0.0001 nats of 1x.");
  EXPECT_NE(lines[2].find("at 16x the training length within"), std::string::npos);
  EXPECT_NE(lines[2].find("Longer windows are not measured: beyond <max_length>"), std::string::npos);
  EXPECT_EQ(lines[5], "Absent attention could not be measured at any of these lengths: beyond <max_length>.");
}

TEST(Report, JsonAndCsvHoldEveryCell) {
  const EvaluationResults r = awkward_results();
  const auto json = nlohmann::json::parse(to_json(r));
  ASSERT_EQ(json["series"].size(), 6u);
  EXPECT_EQ(json["series"][0]["cells"].size(), 12u);
  EXPECT_EQ(json["series"][5]["cells"][0]["not_measured"], "beyond <max_length>");
  // What is no number is null, as everywhere.
  for (const char* key : {"loss", "loss_error", "difference", "bits_per_byte"}) EXPECT_TRUE(json["series"][4]["cells"][3][key].is_null()) << key;
  EXPECT_TRUE(json["resolution"][0]["by_layer"][1].is_null());
  EXPECT_EQ(to_json(r).find("NaN"), std::string::npos);

  std::stringstream csv(to_csv(r));
  int lines = 0;
  for (std::string line; std::getline(csv, line); ++lines) {
    EXPECT_EQ(std::count(line.begin(), line.end(), ','), 25) << line;
    EXPECT_EQ(line.find("nan"), std::string::npos) << line;
    if (lines == 1) EXPECT_EQ(line.rfind("causal,\"runs/<&\"\">/step-1\",0,xpos,none,causal,,,,256,256,64,1048576,1.6", 0), 0u) << line;
  }
  EXPECT_EQ(lines, 1 + 6 * 12);
}

TEST(Report, TrainingCurvePassesOverWhatIsNotOne) {
  const TempDirectory directory;
  write_file(
      directory / "metrics.jsonl",
      "{\"step\":1,\"loss\":5}\n{\"step\":2,\"loss\":null}\n{\"step\":3,\"loss\":4,\"skipped\":true}\nnonsense\n{\"step\":4,\"loss\":3}\n{\"step\":9,\"loss\":2}\n");
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
