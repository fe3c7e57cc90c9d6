#include "datasets/tokenizers/split_pattern.h"

#include <pcre2.h>

#include <array>

#include "framework/base/error.h"

namespace lexring {
namespace {

struct Free {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
  void operator()(pcre2_jit_stack* stack) const { pcre2_jit_stack_free(stack); }
};

std::string message_of(int number) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(number, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

/// `\s` by Unicode's White_Space, as Oniguruma has it; PCRE2 counts U+180E too.
std::string with_white_space(const std::string& expression) {
  constexpr std::string_view members = R"(\p{Z}\x{09}-\x{0d}\x{85})";
  std::string out;
  bool in_class = false;
  for (std::size_t i = 0; i < expression.size(); ++i) {
    const char c = expression[i];
    if (c == '\\' && i + 1 < expression.size()) {
      const char escaped = expression[++i];
      if (escaped == 's') out += in_class ? std::string(members) : "[" + std::string(members) + "]";
      else if (escaped == 'S' && !in_class) out += "[^" + std::string(members) + "]";
      else if (escaped == 'S') fail("\\S inside of brackets is not known");
      else out += {'\\', escaped};
      continue;
    }
    if (c == '[' && !in_class) in_class = true;
    else if (c == ']') in_class = false;
    out += c;
  }
  return out;
}

}  // namespace

struct SplitPattern::Impl {
  std::unique_ptr<pcre2_code, Free> code;
};

SplitPattern::SplitPattern(const std::string& expression) : impl_(std::make_unique<Impl>()) {
  const std::string text = with_white_space(expression);
  int number = 0;
  PCRE2_SIZE at = 0;
  impl_->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), PCRE2_UTF | PCRE2_UCP,
                                  &number, &at, nullptr));
  require(impl_->code != nullptr, "the expression {} cannot be read: {} at {}", expression, message_of(number), at);
  pcre2_jit_compile(impl_->code.get(), PCRE2_JIT_COMPLETE);  // where it fails, matching is slower
}
SplitPattern::SplitPattern(SplitPattern&&) noexcept = default;
SplitPattern::~SplitPattern() = default;

struct SplitPattern::Matcher::Impl {
  const pcre2_code* code;
  std::unique_ptr<pcre2_match_data, Free> data;
  std::unique_ptr<pcre2_match_context, Free> context;
  std::unique_ptr<pcre2_jit_stack, Free> stack;
};

SplitPattern::Matcher::Matcher(const SplitPattern& pattern) : impl_(std::make_unique<Impl>()) {
  impl_->code = pattern.impl_->code.get();
  impl_->data.reset(pcre2_match_data_create_from_pattern(impl_->code, nullptr));
  impl_->context.reset(pcre2_match_context_create(nullptr));
  impl_->stack.reset(pcre2_jit_stack_create(std::size_t{32} << 10, std::size_t{64} << 20, nullptr));
  require(impl_->data && impl_->context && impl_->stack, "there is not enough memory for a tokenizer");
  pcre2_jit_stack_assign(impl_->context.get(), nullptr, impl_->stack.get());
}
SplitPattern::Matcher::Matcher(Matcher&&) noexcept = default;
SplitPattern::Matcher::~Matcher() = default;

void SplitPattern::Matcher::split(std::string_view text, const std::function<void(std::string_view)>& word) {
  const auto* const bytes = reinterpret_cast<PCRE2_SPTR>(text.data());
  std::size_t done = 0, from = 0;
  while (from < text.size()) {
    const int found =
        pcre2_match(impl_->code, bytes, text.size(), from, PCRE2_NO_UTF_CHECK, impl_->data.get(), impl_->context.get());
    if (found == PCRE2_ERROR_NOMATCH) break;
    require(found > 0, "a tokenizer's expression cannot be matched: {}", message_of(found));
    const PCRE2_SIZE* const place = pcre2_get_ovector_pointer(impl_->data.get());
    if (place[1] == place[0]) {  // an empty match parts nothing: go on behind the next character
      from = place[0] + 1;
      while (from < text.size() && (static_cast<unsigned char>(text[from]) & 0xC0) == 0x80) ++from;
      continue;
    }
    if (place[0] > done) word(text.substr(done, place[0] - done));
    word(text.substr(place[0], place[1] - place[0]));
    done = from = place[1];
  }
  if (done < text.size()) word(text.substr(done));
}

}  // namespace lexring
