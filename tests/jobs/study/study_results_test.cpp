// Numbers of a study by hand, its page as a strict parser sees it, and that every method has a formula and a source.
#include "jobs/study/study_results.h"

#include <cmath>

#include <gtest/gtest.h>

#include "jobs/study/method_facts.h"
#include "jobs/study/study_report.h"
#include "jobs/study/study_tables.h"
#include "tests/jobs/evaluation/strict_parser.h"

namespace lexring {
namespace {

TEST(StudyResults, ADifferenceHasTheErrorsOfSeedsAndOfTexts) {
  // Per token, two clusters of 10: seed 1 differs by 1 and 3, seed 2 by 2 and 6. Seeds: 2 and 4, mean 3, error 1.
  // Texts: 1.5 and 4.5, error 1.5. Together sqrt(1 + 2.25).
  const std::vector<std::int64_t> tokens = {10, 10};
  const std::vector<SegmentSums> method = {{{20, 40}, tokens}, {{40, 70}, tokens}},
                                 baseline = {{{10, 10}, tokens}, {{20, 10}, tokens}};
  const Estimate both = difference_over_seeds(method, baseline);
  EXPECT_DOUBLE_EQ(both.mean, 3);
  EXPECT_DOUBLE_EQ(both.error, std::sqrt(3.25));
  // Welch and Satterthwaite: 3.25^2 / (1 + 2.25^2) = 1.74 degrees of freedom, rounded down.
  EXPECT_EQ(both.clusters, 2);
  // One seed: texts alone, 1 and 3.
  const Estimate one = difference_over_seeds({method[0]}, {baseline[0]});
  EXPECT_DOUBLE_EQ(one.mean, 2);
  EXPECT_DOUBLE_EQ(one.error, 1);
}

TEST(StudyResults, MeanOverSeeds) {
  const Estimate e = mean_of({1, 2, 3});
  EXPECT_DOUBLE_EQ(e.mean, 2);
  EXPECT_DOUBLE_EQ(e.error, 1 / std::sqrt(3.0));
  EXPECT_TRUE(std::isnan(mean_of({5}).error));
}

TEST(StudyResults, EveryMethodHasAFormulaAndASource) {
  for (const PositionMethod& method : PositionMethod::table()) {
    EXPECT_NE(std::string(method.formula), "") << method.name;
    EXPECT_NE(std::string(method.source), "") << method.name;
  }
  for (const auto& word : words(Scaling())) {
    if (word.value == Scaling::none) continue;
    EXPECT_NE(scaling_fact(std::string(word.text)).source, "") << word.text;
  }
  for (const PatternMethod& pattern : PatternMethod::table())
    EXPECT_NE(std::string(pattern.formula), "") << pattern.name;
}

/// Eight methods, so that figures come in groups; one cell is not measured, one loss is not finite.
struct Example {
  Study study;
  StudyResults results;
  Example() {
    study.name = "example";
    study.title = "A <study> & more";
    study.seeds = {1, 2};
    study.baseline = "m0";
    results.lengths = {128, 256};
    results.patterns = {"causal", "blockwise"};
    results.train_length = 128;
    results.scored = "the first 4,096 tokens";
    for (int m = 0; m < 8; ++m) {
      StudyMethod method;
      method.name = "m" + std::to_string(m);
      method.label = "method_" + std::to_string(m);
      study.methods.push_back(method);
      results.costs.push_back({1000, 500, 64, 10});
      results.curves.push_back({{"seed 1", {{1, 5.0}, {2, 4.0}}}, {"seed 2", {{1, 5.2}, {2, 4.2}}}});
    }
    for (const std::string& pattern : results.patterns) {
      for (std::size_t m = 0; m < 8; ++m) {
        StudySeries series{m, pattern, {}};
        for (const std::int64_t length : results.lengths) {
          StudyCell cell;
          cell.length = length;
          cell.values = {2.0 + 0.1 * static_cast<double>(m), 2.1 + 0.1 * static_cast<double>(m)};
          if (m == 3) cell.values = {NAN, NAN};
          cell.value = mean_of(cell.values);
          if (m > 0 && m < 7) cell.difference = Estimate{0.1 * static_cast<double>(m), 0.01, 12};
          if (m == 7) cell.not_measured = "beyond max_length";
          series.cells.push_back(cell);
        }
        results.series.push_back(series);
      }
    }
  }
};

TEST(StudyReport, APageThatAStrictParserReads) {
  const Example e;
  const testing::TempDirectory directory;
  const std::string html = to_html(e.study, e.results, "lexring study example.ini");
  EXPECT_EQ(testing::complaint(directory, "report.html", html), "");
  EXPECT_NE(html.find("A &lt;study&gt; &amp; more"), std::string::npos);
  EXPECT_NE(html.find("<strong>2.0500 ± 0.0500</strong>"), std::string::npos);
  EXPECT_NE(html.find("beyond max_length"), std::string::npos);
}

TEST(StudyTables, SaySeedsThatWereMeasured) {
  Example e;
  EXPECT_EQ(describe_seeds(e.study, e.results), "2 seeds");
  e.results.series[0].cells[0].values.pop_back();
  EXPECT_EQ(describe_seeds(e.study, e.results), "1 to 2 of 2 seeds");
  e.study.seeds = {1, 2, 3};
  for (StudySeries& series : e.results.series)
    for (StudyCell& cell : series.cells) cell.values.resize(1);
  EXPECT_NE(to_markdown(e.study, e.results).find("mean of 1 of 3 seeds"), std::string::npos);
}

TEST(StudyTables, BestIsBoldAndWhatIsSpecialIsEscaped) {
  const Example e;
  const std::string markdown = to_markdown(e.study, e.results), latex = to_latex(e.study, e.results);
  EXPECT_NE(markdown.find("| method_0 | **2.0500 ± 0.0500** |"), std::string::npos) << markdown;
  EXPECT_NE(markdown.find("| method_7 | n/a | n/a |"), std::string::npos) << markdown;
  EXPECT_NE(latex.find("method\\_1 & $2.1500 \\pm 0.0500$"), std::string::npos) << latex;
  EXPECT_NE(to_table(e.study, e.results).find("n/a: method_7, causal at 128: beyond max_length"), std::string::npos);
}

TEST(StudyTables, OfATaskMoreIsBetter) {
  Example e;
  e.study.task = "first";
  e.results.measure = {"right answers", "%", "size of the text, bits", 1, true};
  const std::string markdown = to_markdown(e.study, e.results), html = to_html(e.study, e.results, "lexring study x");
  EXPECT_NE(markdown.find("Right answers in %, mean of 2 seeds"), std::string::npos) << markdown;
  EXPECT_NE(markdown.find("| method_0 | 2.0 ± 0.1 |"), std::string::npos) << markdown;
  EXPECT_NE(markdown.find("| method_6 | **2.7 ± 0.1**"), std::string::npos) << markdown;
  EXPECT_NE(html.find("<strong>2.7 ± 0.1</strong>"), std::string::npos);
  EXPECT_NE(html.find("Above 0: better"), std::string::npos);
  EXPECT_EQ(to_csv(e.study, e.results).find(",loss,"), std::string::npos);
}

}  // namespace
}  // namespace lexring
