#include "jobs/evaluation/task_report.h"

#include <gtest/gtest.h>

#include "jobs/evaluation/heat_map.h"
#include "tests/jobs/evaluation/strict_parser.h"

namespace lexring::testing {
namespace {

TaskVariant ignoring(const char* name, double share) {
  TaskVariant variant;
  variant.name = name, variant.settings.ignore = share;
  return variant;
}
TaskVariant deep(const char* name, double depth) {
  TaskVariant variant;
  variant.name = name, variant.settings.depth = depth;
  return variant;
}

/// Two series by three sizes; the second was not measured at the longest. Names need escaping.
TaskResults results_of(const std::vector<TaskVariant>& variants) {
  TaskResults r;
  r.keys.task = "passkey", r.keys.sizes = {512, 1024, 4096}, r.keys.count = 20, r.keys.seed = 1;
  r.variants = variants;
  MeasuredModel model;
  model.name = model.run = "<b>";
  model.checkpoint = "runs/<&>";
  r.models = {model};
  for (const char* name : {"causal", "a<b"}) {
    r.series.emplace_back().name = name;
    auto& scores = r.scores.emplace_back();
    for (std::size_t size = 0; size < 3; ++size) {
      for (std::size_t v = 0; v < variants.size(); ++v) {
        TaskScore score;
        score.size = r.keys.sizes[size];
        if (name[0] == 'a' && size == 2) score.not_measured = "beyond <max_length>";
        else
          for (std::size_t i = 0; i < 20; ++i) score.answers.add_text(i < 20 - 5 * size - v ? 1 : 0, 1);
        scores.push_back(score);
      }
    }
  }
  return r;
}

std::size_t count_of(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(TaskReport, IsWellFormedAndNeedsNothingElse) {
  const TempDirectory directory;
  for (const auto& variants : {std::vector<TaskVariant>{{"", {}}},
                               {ignoring("80 % ignored", 0.8), ignoring("98 % ignored", 0.98)},
                               {deep("depth 0.00", 0), deep("depth 1.00", 1)}}) {
    const std::string html = to_html(results_of(variants));
    EXPECT_EQ(complaint(directory, "tasks.html", html), "");
    for (const char* foreign : {"http://", "https://", "url(", "@import", "<b>:"})
      EXPECT_EQ(html.find(foreign), std::string::npos) << foreign;
  }
}

TEST(TaskReport, DepthsAreAMapAndOtherVariantsAreLines) {
  const std::string map = to_html(results_of({deep("depth 0.00", 0), deep("depth 0.50", 0.5), deep("depth 1.00", 1)}));
  EXPECT_EQ(count_of(map, "class=\"f-heat\""), 3U * 3 + 3 * 2);  // one size of the second series has none
  EXPECT_EQ(count_of(map, ">n/a</text>"), 3U);
  const TaskResults shares = results_of({ignoring("80 % ignored", 0.8), ignoring("98 % ignored", 0.98)});
  EXPECT_EQ(count_of(to_html(shares), "class=\"f-heat\""), 0U);
  EXPECT_EQ(sentences(shares),
            (std::vector<std::string>{
                "causal, 80 % ignored: 100.0 % (83.9 to 100.0) right at 512 bytes, 50.0 % (29.9 to 70.1) at 4,096.",
                "causal, 98 % ignored: 95.0 % (76.4 to 99.1) right at 512 bytes, 45.0 % (25.8 to 65.8) at 4,096.",
                "a<b, 80 % ignored: 100.0 % (83.9 to 100.0) right at 512 bytes, 75.0 % (53.1 to 88.8) at 1,024.",
                "a<b, 98 % ignored: 95.0 % (76.4 to 99.1) right at 512 bytes, 70.0 % (48.1 to 85.5) at 1,024."}));
}

TEST(TaskReport, ASeriesThatWasNowhereMeasuredSaysSo) {
  TaskResults r = results_of({{"", {}}});
  for (TaskScore& score : r.scores[1]) score.answers = {}, score.not_measured = "beyond";
  EXPECT_EQ(sentences(r)[1], "a<b: not measured.");
  const TempDirectory directory;
  EXPECT_EQ(complaint(directory, "tasks.html", to_html(r)), "");
}

TEST(HeatMap, TextOfFullCellsIsWhiteAndThatOfPaleOnesIsInk) {
  HeatMap map{.description = "d",
              .x_label = "x",
              .y_label = "y",
              .columns = {"a", "b"},
              .rows = {"r"},
              .cells = {{{0.0, ""}, {1.0, ""}}}};
  const std::string svg = to_svg(map);
  EXPECT_LT(svg.find("f-on-pale\" text-anchor=\"middle\">0<"), svg.find("f-on-full\" text-anchor=\"middle\">100<"));
  EXPECT_NE(svg.find("f-on-full\" text-anchor=\"middle\">100<"), std::string::npos);
}

}  // namespace
}  // namespace lexring::testing
