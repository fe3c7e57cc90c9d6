#include "datasets/tasks/chomsky.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include <boost/multiprecision/cpp_int.hpp>

#include "datasets/tasks/task_random.h"

namespace lexring {
namespace {

using Number = boost::multiprecision::cpp_int;

constexpr std::string_view digits = "01234";

std::int64_t count(std::string_view text, char c) { return std::count(text.begin(), text.end(), c); }
std::size_t size(std::int64_t length) { return static_cast<std::size_t>(length); }

std::string reversed(std::string_view text) { return {text.rbegin(), text.rend()}; }

// ---- Numbers

enum class Lowest { first, last };

Number number(std::string_view bits, Lowest lowest) {
  std::string values;
  for (const char c : bits) values += static_cast<char>(c - '0');
  Number value;
  import_bits(value, values.begin(), values.end(), 1, lowest == Lowest::last);
  return value;
}

/// Without leading zeros.
std::string bits_of(const Number& value, Lowest lowest) {
  std::string bits;
  export_bits(value, std::back_inserter(bits), 1, lowest == Lowest::last);
  for (char& c : bits) c = static_cast<char>(c + '0');
  return bits;
}

/// So many bits, not all of them 0.
std::string positive(TaskRandom& random, std::int64_t width) {
  std::string bits = random.text("01", width);
  while (count(bits, '1') == 0) bits = random.text("01", width);
  return bits;
}

std::string two_numbers(TaskRandom& random, std::int64_t length, char sign) {
  const std::int64_t first = 1 + random.below(length - 2);
  std::string text = positive(random, first) + sign;
  return text += positive(random, length - 1 - first);
}

std::pair<Number, Number> numbers_of(std::string_view text) {
  const std::size_t sign = text.find_first_of("+*");
  return {number(text.substr(0, sign), Lowest::first), number(text.substr(sign + 1), Lowest::first)};
}

// ---- Expressions modulo 5

/// Digits below 5, + and -, in brackets.
std::string expression(TaskRandom& random, std::int64_t length) {
  if (length <= 2) return std::string(size(length - 1), '-') + random.of(digits);
  std::string text(1, '(');
  if (length <= 4) {
    text += expression(random, length - 2);
  } else {
    const std::int64_t left = 1 + random.below(length - 4);
    const std::string a = expression(random, left), b = expression(random, length - left - 3);
    text += a;
    text += random.of("+-");  // drawn last
    text += b;
  }
  text += ')';
  return text;
}

/// Reads sums of products of signed digits and brackets.
class Modulo5 {
 public:
  explicit Modulo5(std::string_view text) : text_(text) {}

  int sum() {
    int value = product();
    while (at_ < text_.size() && (text_[at_] == '+' || text_[at_] == '-')) {
      const bool minus = text_[at_++] == '-';
      const int next = product();
      value = (value + (minus ? 5 - next : next)) % 5;
    }
    return value;
  }

 private:
  int product() {
    int value = factor();
    while (at_ < text_.size() && text_[at_] == '*') {
      ++at_;
      value = value * factor() % 5;
    }
    return value;
  }
  int factor() {
    const char c = text_[at_++];
    if (c == '-') return (5 - factor()) % 5;
    if (c != '(') return c - '0';
    const int value = sum();
    ++at_;  // the closing one
    return value;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};
std::string modulo_5(std::string_view text) { return std::string(1, static_cast<char>('0' + Modulo5(text).sum())); }

std::string arithmetic(TaskRandom& random, std::int64_t length) {
  std::string text(1, random.of(digits));
  for (std::int64_t i = 0; i < (length - 1) / 2; ++i) {
    text += random.of("+-*");
    text += random.of(digits);
  }
  return text;
}

std::string equation(TaskRandom& random, std::int64_t length) {
  std::string text = expression(random, length - 2);
  const std::string value = modulo_5(text);
  auto at = size(random.below(static_cast<std::int64_t>(text.size())));
  while (digits.find(text[at]) == std::string_view::npos) at = (at + 1) % text.size();
  text[at] = 'x';
  return text + "~" + value;
}

std::string solution(std::string_view text) {
  const std::size_t equals = text.find('~'), unknown = text.find('x');
  std::string left(text.substr(0, equals));
  for (const char x : digits) {
    left[unknown] = x;
    if (modulo_5(left)[0] == text[equals + 1]) return std::string(1, x);
  }
  return {};
}

// ---- Strings

std::string stack_program(TaskRandom& random, std::int64_t length) {
  const std::int64_t stack = 1 + random.below(length - 1);
  std::string text = random.text("01", stack);
  return text += random.text("Pab", length - stack);
}

std::string stack_after(std::string_view text) {
  std::string stack;
  for (const char c : text) {
    if (c != 'P') stack += c == 'a' ? '0' : c == 'b' ? '1' : c;
    else if (!stack.empty()) stack.pop_back();
  }
  return reversed(stack) + ".";
}

std::string twice_with_a_gap(TaskRandom& random, std::int64_t length) {
  const std::string half = random.text("01", length / 2);
  std::string text = half + half;
  text[size(random.below(static_cast<std::int64_t>(text.size())))] = '?';
  return text + std::string(size(length % 2), '.');
}

std::string missing(std::string_view text) {
  const std::size_t half = text.size() / 2, at = text.find('?');
  return std::string(1, text[at < half ? at + half : at - half]);
}

std::string every_second(std::string_view text, std::size_t from) {
  std::string taken;
  for (std::size_t i = from; i < text.size(); i += 2) taken += text[i];
  return taken;
}

std::int64_t changes(std::string_view text) {
  std::int64_t found = 0;
  for (std::size_t i = 1; i < text.size(); ++i) found += text[i] != text[i - 1] ? 1 : 0;
  return found;
}

std::string text_of(std::int64_t number) { return std::to_string(number); }

std::string input(ChomskyTask task, TaskRandom& random, std::int64_t length) {
  switch (task) {
    case ChomskyTask::modular_arithmetic:
      return arithmetic(random, length);
    case ChomskyTask::cycle_navigation:
      return random.text("-0+", length);
    case ChomskyTask::stack_manipulation:
      return stack_program(random, length);
    case ChomskyTask::modular_arithmetic_brackets:
      return expression(random, length);
    case ChomskyTask::solve_equation:
      return equation(random, length);
    case ChomskyTask::missing_duplicate:
      return twice_with_a_gap(random, length);
    case ChomskyTask::binary_addition:
      return two_numbers(random, length, '+');
    case ChomskyTask::binary_multiplication:
      return two_numbers(random, length, '*');
    case ChomskyTask::compute_sqrt:
      return positive(random, length);
    case ChomskyTask::bucket_sort:
      return random.text(digits, length);
    case ChomskyTask::even_pairs:
    case ChomskyTask::parity_check:
    case ChomskyTask::reverse_string:
    case ChomskyTask::duplicate_string:
    case ChomskyTask::odds_first:
      break;
  }
  return random.text("01", length);
}

std::string answer(ChomskyTask task, std::string_view text) {
  switch (task) {
    case ChomskyTask::even_pairs:
      return text_of(changes(text) % 2);
    case ChomskyTask::parity_check:
      return text_of(count(text, '1') % 2);
    case ChomskyTask::cycle_navigation: {
      const std::int64_t steps = (count(text, '+') - count(text, '-')) % 5;
      return text_of((steps + 5) % 5);
    }
    case ChomskyTask::modular_arithmetic:
    case ChomskyTask::modular_arithmetic_brackets:
      return modulo_5(text);
    case ChomskyTask::solve_equation:
      return solution(text);
    case ChomskyTask::stack_manipulation:
      return stack_after(text);
    case ChomskyTask::reverse_string:
      return reversed(text);
    case ChomskyTask::duplicate_string:
      return std::string(text) + std::string(text);
    case ChomskyTask::missing_duplicate:
      return missing(text.substr(0, text.size() / 2 * 2));
    case ChomskyTask::odds_first:
      return every_second(text, 1) + every_second(text, 0);
    case ChomskyTask::binary_addition: {
      const auto [a, b] = numbers_of(text);
      return bits_of(a + b, Lowest::first) + ".";
    }
    case ChomskyTask::binary_multiplication: {
      const auto [a, b] = numbers_of(text);
      return bits_of(a * b, Lowest::first) + ".";
    }
    case ChomskyTask::compute_sqrt: {
      const std::string root = bits_of(sqrt(number(text, Lowest::last)), Lowest::last);
      return std::string((text.size() + 1) / 2 - root.size(), '0') + root;
    }
    case ChomskyTask::bucket_sort: {
      std::string sorted(text);
      std::sort(sorted.begin(), sorted.end());
      return sorted;
    }
  }
  return {};
}

}  // namespace

ScoredText chomsky(ChomskyTask task, std::uint64_t seed, std::int64_t length) {
  TaskRandom random(seed);
  const std::string text = input(task, random, length);
  return answered(text + "=", answer(task, text));
}

}  // namespace lexring
