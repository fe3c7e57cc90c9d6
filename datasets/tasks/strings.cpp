#include "datasets/tasks/strings.h"

#include <algorithm>

#include "datasets/tasks/task_random.h"

namespace lexring {
namespace {

constexpr std::string_view letters_of_tasks = "abcdefghijklmnopqrstuvwxyz";

std::string reversed(std::string text) {
  std::reverse(text.begin(), text.end());
  return text;
}

}  // namespace

ScoredText flip_flop(std::uint64_t seed, std::int64_t pairs, const TaskSettings& settings) {
  TaskRandom random(seed);
  ScoredText result;
  char memory = '0';
  for (std::int64_t n = 0; n < pairs; ++n) {
    const char instruction = n == 0                           ? 'w'
                             : n == pairs - 1                 ? 'r'
                             : random.chance(settings.ignore) ? 'i'
                                                              : random.of("wr");
    const char bit = instruction == 'r' ? memory : random.of("01");
    if (instruction == 'w') memory = bit;
    result.text += {instruction, bit};
    const auto end = static_cast<std::int64_t>(result.text.size());
    if (instruction == 'r') result.answers.push_back({end - 1, end});
  }
  return result;
}

ScoredText first_bit(std::uint64_t seed, std::int64_t bits, const TaskSettings& /*settings*/) {
  const std::string text = TaskRandom(seed).text("01", bits);
  return answered("$" + text + "=", text.substr(0, 1));
}

ScoredText parity(std::uint64_t seed, std::int64_t bits, const TaskSettings& /*settings*/) {
  const std::string text = TaskRandom(seed).text("01", bits);
  return answered("$" + text + "=", std::count(text.begin(), text.end(), '1') % 2 == 1 ? "1" : "0");
}

ScoredText copy_text(std::uint64_t seed, std::int64_t letters, const TaskSettings& /*settings*/) {
  const std::string text = TaskRandom(seed).text(letters_of_tasks, letters);
  return answered(text + "=", text + ".");
}

ScoredText reverse_text(std::uint64_t seed, std::int64_t letters, const TaskSettings& /*settings*/) {
  const std::string text = TaskRandom(seed).text(letters_of_tasks, letters);
  return answered(text + "=", reversed(text) + ".");
}

ScoredText addition(std::uint64_t seed, std::int64_t digits, const TaskSettings& settings) {
  TaskRandom random(seed);
  const std::string a = random.text("0123456789", digits), b = random.text("0123456789", digits);
  std::string sum;  // lowest digit first
  int carry = 0;
  for (std::size_t i = a.size(); i-- > 0;) {
    const int digit = a[i] - '0' + (b[i] - '0') + carry;
    sum += static_cast<char>('0' + digit % 10);
    carry = digit / 10;
  }
  sum += static_cast<char>('0' + carry);
  return answered(a + "+" + b + "=", (settings.reversed_sum ? sum : reversed(sum)) + ".");
}

}  // namespace lexring
