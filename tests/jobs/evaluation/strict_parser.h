/// A page or a drawing as a strict parser sees it.
#pragma once

#include <string>

#include "tests/datasets/support.h"
#include "tests/support/process.h"

namespace lexring::testing {

/// What a strict parser says of a file; empty: nothing to complain about.
inline std::string complaint(const TempDirectory& directory, const std::string& name, const std::string& text) {
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
  const ProcessResult result =
      run_process("python3 " + (directory / "check.py").string() + " " + (directory / name).string());
  return result.exit_code == 0 ? "" : result.output + " (exit " + std::to_string(result.exit_code) + ")";
}

}  // namespace lexring::testing
