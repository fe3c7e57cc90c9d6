#include "jobs/evaluation/report_page.h"

#include <fmt/format.h>

#include "jobs/evaluation/figure.h"

namespace lexring {
namespace {

constexpr const char* style = R"(
:root { color-scheme: light dark; --page: #f4f6f9; --better: #00684c; --worse: #b03a00; }
@page { size: A4; margin: 14mm 12mm; }
@media (prefers-color-scheme: dark) { :root { --page: #0d1117; --better: #41cfa3; --worse: #ff935c; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; padding: 48px 20px 64px; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif; }
header, main { max-width: 1040px; margin: 0 auto; }
header { margin-bottom: 28px; }
.eyebrow { margin: 0 0 6px; color: var(--soft); font-size: 14px; overflow-wrap: anywhere; }
h1 { margin: 0 0 14px; font-size: clamp(26px, 4.6vw, 40px); line-height: 1.15; letter-spacing: -0.02em;
  font-weight: 700; text-wrap: balance; }
.lead { margin: 0 0 4px; font-size: 18px; max-width: 62ch; }
.card { margin: 0 0 20px; padding: 22px 26px 20px; background: var(--paper); border: 1px solid var(--rule);
  border-radius: 12px; }
.card h2 { margin: 0 0 14px; font-size: 17px; font-weight: 650; letter-spacing: -0.005em; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr)); gap: 20px;
  margin-bottom: 20px; }
.pair .card { margin: 0; }
svg.figure { display: block; width: 100%; height: auto; overflow: visible; }
figcaption, .caption { margin: 12px 0 0; color: var(--soft); font-size: 13.5px; line-height: 1.5; max-width: 76ch; }
.scroll { overflow-x: auto; margin: 0 -26px; padding: 0 26px; }
.on-narrow { display: none; } @media (max-width: 760px) { .on-wide { display: none; } .on-narrow { display: block; } }
table { border-collapse: collapse; width: 100%; font-size: 14.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 9px 0 9px 22px; text-align: right; vertical-align: top; white-space: nowrap;
  border-top: 1px solid var(--rule); font-weight: 400; }
thead th { border-top: 0; padding-top: 0; color: var(--soft); font-size: 13.5px; vertical-align: bottom; }
thead th.base { color: var(--ink); font-weight: 650; }
th:first-child { padding-left: 0; text-align: left; position: sticky; left: 0; background: var(--paper); }
.pair .card:last-child:nth-child(odd) { grid-column: 1 / -1; }
  .pair .card:last-child:nth-child(odd) svg { max-width: 560px; }
tbody th b { color: var(--c); font-weight: 650; }
td i { font-style: normal; color: var(--soft); font-size: 12.5px; }
table small { display: block; font-size: 12.5px; color: var(--soft); }
table small.worse { color: var(--worse); } table small.better { color: var(--better); }
.absent { color: var(--soft); } .absent small { white-space: normal; max-width: 16ch; margin-left: auto; }
.better { color: var(--better); } .worse { color: var(--worse); } .unclear { color: var(--soft); }
  .lead.unclear { color: var(--ink); }
.detail { font-size: 13.5px; } .detail th, .detail td { padding-top: 4px; padding-bottom: 4px; }
  .detail tbody th { white-space: normal; }
.facts { margin: 0; display: grid; grid-template-columns: repeat(auto-fit, minmax(min(300px, 100%), 1fr));
  gap: 14px 32px; }
.facts dt { color: var(--soft); font-size: 13px; } .facts dd { margin: 0; font-size: 14.5px; overflow-wrap: anywhere; }
.facts .command { grid-column: 1 / -1; }
  .facts .command dd { font: 12.5px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; }
@media (max-width: 640px) { .detail { font-size: 12px; } .detail th, .detail td { padding-left: 9px; }
  body { padding: 28px 12px 40px; } .card { padding: 16px 14px; } .scroll { margin: 0 -14px; padding: 0 14px; }
  .lead { font-size: 16px; } }
@media print { :root { color-scheme: light; --page: #ffffff; --better: #00684c; --worse: #b03a00; } body { padding: 0;
  font-size: 10pt; }
  h1 { font-size: 22pt; } .lead { font-size: 11pt; } .card { break-inside: avoid; border-color: #cccccc;
  padding: 14px 16px; margin-bottom: 12px; }
  .card.long { break-inside: auto; } tr { break-inside: avoid; } thead { display: table-header-group; }
  .card h2 { break-after: avoid; }
  .pair { grid-template-columns: 1fr 1fr; gap: 12px; } .pair .card { padding: 12px; } .on-wide { display: none; }
  .on-narrow { display: block; }
  .scroll { overflow: visible; margin: 0; padding: 0; } .detail { font-size: 8.5pt; }
  .detail th, .detail td { padding-left: 10px; }
  th:first-child { position: static; } }
)";

constexpr const char* stacked = R"(
.numbers, .numbers tbody { display: block; } .numbers thead { display: none; }
.numbers tbody { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(400px, 100%), 1fr));
  gap: 18px 32px; }
.numbers tr { display: block; } .numbers tbody th { display: block; border-top: 0; padding: 0 0 6px;
  white-space: normal; }
.numbers td { display: grid; grid-template-columns: minmax(92px, 1fr) auto minmax(148px, auto); gap: 0 14px;
  padding: 4px 0; }
.numbers td::before { content: attr(data-length); text-align: left; color: var(--soft); }
.numbers td .absent { grid-column: 2 / -1; } .numbers .absent small { max-width: none; }
  .numbers td small { font-size: inherit; }
)";

}  // namespace

std::string card(const std::string& title, const std::string& svg, const std::string& caption) {
  return fmt::format("<figure class=\"card\"><h2>{}</h2>\n{}<figcaption>{}</figcaption></figure>\n", escape(title), svg,
                     escape(caption));
}

std::string at_both_widths(Figure figure) {
  std::string html = "<div class=\"on-wide\">\n" + to_svg(figure) + "</div>\n";
  figure.width = 560;
  return html + "<div class=\"on-narrow\">\n" + to_svg(figure) + "</div>\n";
}

std::string facts_list(const Facts& facts) {
  std::string html = "<dl class=\"facts\">\n";
  for (const auto& [name, value] : facts) {
    html += fmt::format("<div{}><dt>{}</dt><dd>{}</dd></div>\n", name == "Command" ? " class=\"command\"" : "",
                        escape(name), escape(value));
  }
  return html + "</dl>\n";
}

std::string stacked_table_style(int columns) {
  constexpr int name = 150, column = 145, frame = 92, most_on_screen = 6, most_on_paper = 3;
  if (columns > most_on_screen) return stacked;
  const int width = name + column * columns + frame;
  return fmt::format("@media {}(max-width: {}px) {{{}}}\n", columns > most_on_paper ? "print, " : "", width, stacked);
}

std::string html_page(const std::string& title, const std::string& more, const std::string& body) {
  return "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>" +
         escape(title) + "</title>\n<style>\n" + figure_style() + style + more + "</style>\n</head>\n<body>\n" + body +
         "</body>\n</html>\n";
}

}  // namespace lexring
