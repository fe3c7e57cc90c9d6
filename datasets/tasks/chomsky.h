/// The 15 tasks of Deletang et al. 2023 ("Neural Networks and the Chomsky Hierarchy") and Ruoss et al. 2023, with the
/// parameters of their tables: binary strings, modulus 5, five symbols to sort, no multiplication inside brackets.
///
/// Inputs and outputs are those of their code. They train an encoder that sees the input and as many blanks as the
/// answer has symbols; here the answer follows "=", with a full stop where its length is not known beforehand.
#pragma once

#include <string>

#include "datasets/tasks/task.h"

namespace lexring {

enum class ChomskyTask {
  even_pairs,          ///< is the number of 01 and 10 odd?
  modular_arithmetic,  ///< digits, + - *; an even length is shortened by one
  parity_check,
  cycle_navigation,    ///< - 0 +: steps on a cycle of five
  stack_manipulation,  ///< 0 and 1 bottom to top, then P pop, a push 0, b push 1; the stack top to bottom
  reverse_string,
  modular_arithmetic_brackets,  ///< + - and brackets
  solve_equation,               ///< the digit x for which both sides of ~ are equal
  duplicate_string,
  missing_duplicate,      ///< the bit that ? stands for; a full stop fills up an odd length
  odds_first,             ///< 0-based odd places, then the even ones
  binary_addition,        ///< little-endian
  binary_multiplication,  ///< little-endian
  compute_sqrt,           ///< of a big-endian number, rounded down
  bucket_sort
};

ScoredText chomsky(ChomskyTask task, std::uint64_t seed, std::int64_t length);

}  // namespace lexring
