#include "datasets/sources.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <utility>

#include <fmt/core.h>

namespace lexring {
namespace {

constexpr std::size_t most_bytes = 4000;

std::string quoted(const std::string& name) {
  const bool plain =
      std::none_of(name.begin(), name.end(), [](unsigned char c) { return c <= ' ' || c == '\'' || c == 0x7f; });
  if (plain && !name.empty() && name != "...") return name;
  std::string out = "'";
  for (const char c : name) out += c == '\'' ? std::string(R"('\'')") : std::string(1, c);
  return out + "'";
}

struct Sources {
  std::vector<std::string> names;
  bool cut = false;      ///< there are more than the names
  std::size_t more = 0;  ///< how many; 0 where an earlier version did not say
};

Sources split(const std::string& source) {
  Sources out;
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == ' ') continue;
    if (source.compare(i, 3, "...") == 0 && (i + 3 == source.size() || source.compare(i + 3, 5, " and ") == 0)) {
      out.cut = true;
      out.more = i + 3 == source.size() ? 0 : std::strtoull(source.c_str() + i + 8, nullptr, 10);
      return out;
    }
    std::string& name = out.names.emplace_back();
    for (bool inside = false; i < source.size() && (inside || source[i] != ' '); ++i) {
      if (source[i] == '\'') {
        inside = !inside;
      } else if (source.compare(i, 2, "\\'") == 0 && !inside) {
        name += source[++i];
      } else {
        name += source[i];
      }
    }
  }
  return out;
}

}  // namespace

std::string join_sources(const std::vector<std::string>& inputs) {
  std::string all;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const auto name = quoted(inputs[i]);
    if (i > 0 && all.size() + name.size() > most_bytes) return all + fmt::format(" ... and {} more", inputs.size() - i);
    all += (i == 0 ? "" : " ") + name;
  }
  return all;
}

std::string printable(std::string name) {
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return std::iscntrl(c) != 0; }, '?');
  return name;
}

std::string describe_sources(const std::string& source, std::size_t first) {
  const auto sources = split(source);
  const auto shown = std::min(first, sources.names.size());
  std::string text;
  for (std::size_t i = 0; i < shown; ++i) text += (i == 0 ? "" : ", ") + sources.names[i];
  text = printable(std::move(text));
  const auto rest = sources.names.size() - shown + sources.more;
  if (sources.cut && sources.more == 0) return text + " and more";
  return rest == 0 ? text : text + fmt::format(" and {} more", rest);
}

}  // namespace lexring
