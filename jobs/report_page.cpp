#include "jobs/report_page.h"

#include "jobs/evaluation/figure.h"

namespace lexring {
namespace {

constexpr const char* style = R"(
:root { color-scheme: light dark; --page: #f4f6f9; --better: #00684c; --worse: #b03a00; }
@media (prefers-color-scheme: dark) { :root { --page: #0d1117; --better: #41cfa3; --worse: #ff935c; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; padding: 48px 20px 64px; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif; }
header, main { max-width: 1040px; margin: 0 auto; }
header { margin-bottom: 28px; }
.eyebrow { margin: 0 0 6px; color: var(--soft); font-size: 14px; overflow-wrap: anywhere; }
h1 { margin: 0 0 14px; font-size: clamp(26px, 4.6vw, 40px); line-height: 1.15; letter-spacing: -0.02em; font-weight: 700; text-wrap: balance; }
.lead { margin: 0 0 4px; font-size: 18px; max-width: 62ch; }
.card { margin: 0 0 20px; padding: 22px 26px 20px; background: var(--paper); border: 1px solid var(--rule); border-radius: 12px; }
.card h2 { margin: 0 0 14px; font-size: 17px; font-weight: 650; letter-spacing: -0.005em; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr)); gap: 20px; margin-bottom: 20px; }
.pair .card { margin: 0; }
svg.figure { display: block; width: 100%; height: auto; overflow: visible; }
figcaption, .caption { margin: 12px 0 0; color: var(--soft); font-size: 13.5px; line-height: 1.5; max-width: 76ch; }
.scroll { overflow-x: auto; margin: 0 -26px; padding: 0 26px; }
.wide svg { min-width: 620px; }
table { border-collapse: collapse; width: 100%; font-size: 14.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 9px 0 9px 22px; text-align: right; vertical-align: top; white-space: nowrap; border-top: 1px solid var(--rule); font-weight: 400; }
thead th { border-top: 0; padding-top: 0; color: var(--soft); font-size: 13.5px; vertical-align: bottom; }
thead th.base { color: var(--ink); font-weight: 650; }
th:first-child { padding-left: 0; text-align: left; position: sticky; left: 0; background: var(--paper); }
.pair .card:last-child:nth-child(odd) { grid-column: 1 / -1; } .pair .card:last-child:nth-child(odd) svg { max-width: 560px; }
tbody th b { color: var(--c); font-weight: 650; }
td i { font-style: normal; color: var(--soft); font-size: 12.5px; }
table small { display: block; font-size: 12.5px; color: var(--soft); }
table small.worse { color: var(--worse); } table small.better { color: var(--better); }
.absent { color: var(--soft); } .absent small { white-space: normal; max-width: 16ch; margin-left: auto; }
.better { color: var(--better); } .worse { color: var(--worse); } .same { color: var(--soft); }
details { margin-top: 14px; } summary { cursor: pointer; font-size: 14px; color: var(--soft); } summary:hover { color: var(--ink); }
details[open] summary { margin-bottom: 14px; } .detail th, .detail td { padding-top: 5px; padding-bottom: 5px; }
.facts { margin: 0; display: grid; grid-template-columns: repeat(auto-fit, minmax(min(300px, 100%), 1fr)); gap: 14px 32px; }
.facts dt { color: var(--soft); font-size: 13px; } .facts dd { margin: 0; font-size: 14.5px; overflow-wrap: anywhere; }
@media (max-width: 640px) { body { padding: 28px 12px 40px; } .card { padding: 16px 14px; } .scroll { margin: 0 -14px; padding: 0 14px; } .lead { font-size: 16px; } }
@media print { :root { color-scheme: light; --page: #ffffff; --better: #00684c; --worse: #b03a00; } body { padding: 0; font-size: 11pt; }
  .card { break-inside: avoid; border-color: #cccccc; } .pair { grid-template-columns: 1fr 1fr; } }
)";

}  // namespace

std::string html_page(const std::string& title, const std::string& body) {
  return "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>" +
         escape(title) + "</title>\n<style>\n" + figure_style() + style + "</style>\n</head>\n<body>\n" + body + "</body>\n</html>\n";
}

}  // namespace lexring
