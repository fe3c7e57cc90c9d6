#include <algorithm>

#include <fmt/format.h>

#include "datasets/tasks/chomsky.h"
#include "datasets/tasks/retrieval.h"
#include "datasets/tasks/strings.h"
#include "datasets/tasks/task.h"
#include "framework/base/error.h"

namespace lexring {
namespace {

template <ChomskyTask task>
ScoredText of_chomsky(std::uint64_t seed, std::int64_t size, const TaskSettings& /*settings*/) {
  return chomsky(task, seed, size);
}

constexpr std::string_view regular = "regular (Deletang et al. 2023)", context_free = "context-free (the same)",
                           context_sensitive = "context-sensitive (the same)";

constexpr std::int64_t many = std::int64_t{1} << 26,  // of one byte, or a few
    lines_at_most = 1000000,                          // of names there are 3e8
    symbols_at_most = 1 << 17;                        // long numbers take quadratic time

constexpr Task all[] = {
    {"passkey", "bytes", 300, many, "a number within filler (Mohtashami & Jaggi 2023)", passkey},
    {"needle", "bytes", 300, many, "a number within any text, --haystack (RULER, Hsieh et al. 2024)", needle},
    {"lines", "lines", 1, lines_at_most, "one of many lines (LongEval, Li et al. 2023)", line_retrieval},
    {"flip_flop", "pairs", 2, many, "the last bit that was written (Liu et al. 2023)", flip_flop},
    {"first", "bits", 1, many, "the first bit (Chiang & Cholak 2022)", first_bit},
    {"parity", "bits", 1, many, "ones modulo 2 (Chiang & Cholak 2022)", parity},
    {"copy", "letters", 1, many, "the letters again", copy_text},
    {"reverse", "letters", 1, many, "the letters backwards", reverse_text},
    {"addition", "digits", 1, many, "the sum of two decimal numbers", addition},
    {"even_pairs", "symbols", 1, symbols_at_most, regular, of_chomsky<ChomskyTask::even_pairs>},
    {"modular_arithmetic", "symbols", 1, symbols_at_most, regular, of_chomsky<ChomskyTask::modular_arithmetic>},
    {"parity_check", "symbols", 1, symbols_at_most, regular, of_chomsky<ChomskyTask::parity_check>},
    {"cycle_navigation", "symbols", 1, symbols_at_most, regular, of_chomsky<ChomskyTask::cycle_navigation>},
    {"stack_manipulation", "symbols", 2, symbols_at_most, context_free, of_chomsky<ChomskyTask::stack_manipulation>},
    {"reverse_string", "symbols", 1, symbols_at_most, context_free, of_chomsky<ChomskyTask::reverse_string>},
    {"modular_arithmetic_brackets", "symbols", 1, symbols_at_most, context_free,
     of_chomsky<ChomskyTask::modular_arithmetic_brackets>},
    {"solve_equation", "symbols", 3, symbols_at_most, context_free, of_chomsky<ChomskyTask::solve_equation>},
    {"duplicate_string", "symbols", 1, symbols_at_most, context_sensitive, of_chomsky<ChomskyTask::duplicate_string>},
    {"missing_duplicate", "symbols", 2, symbols_at_most, context_sensitive, of_chomsky<ChomskyTask::missing_duplicate>},
    {"odds_first", "symbols", 1, symbols_at_most, context_sensitive, of_chomsky<ChomskyTask::odds_first>},
    {"binary_addition", "symbols", 3, symbols_at_most, context_sensitive, of_chomsky<ChomskyTask::binary_addition>},
    {"binary_multiplication", "symbols", 3, symbols_at_most, context_sensitive,
     of_chomsky<ChomskyTask::binary_multiplication>},
    {"compute_sqrt", "symbols", 1, symbols_at_most, context_sensitive, of_chomsky<ChomskyTask::compute_sqrt>},
    {"bucket_sort", "symbols", 1, symbols_at_most, context_sensitive, of_chomsky<ChomskyTask::bucket_sort>},
};

}  // namespace

std::span<const Task> tasks() { return all; }

const Task& find_task(std::string_view name) {
  const auto* const found = std::find_if(std::begin(all), std::end(all), [&](const Task& t) { return t.name == name; });
  if (found != std::end(all)) return *found;
  std::string names;
  for (const Task& task : all) names += fmt::format("{}{}", names.empty() ? "" : ", ", task.name);
  throw UsageError(fmt::format("there is no task '{}'; choose {}", name, names));
}

void check_size(const Task& task, std::int64_t size) {
  require_usage(size >= task.least, "task {} of {} {} is impossible; the least is {}", task.name, size, task.unit,
                task.least);
  require_usage(size <= task.most, "task {} of {} {} is impossible; the most is {}", task.name, size, task.unit,
                task.most);
}

ScoredText make_text(const Task& task, std::uint64_t seed, std::int64_t size, const TaskSettings& settings) {
  check_size(task, size);
  return task.make(seed, size, settings);
}

}  // namespace lexring
