#include "datasets/tasks/retrieval.h"

#include <cmath>
#include <unordered_set>

#include <fmt/format.h>

#include "datasets/tasks/task_random.h"
#include "framework/base/error.h"

namespace lexring {
namespace {

constexpr std::string_view filler =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. ";

std::string filler_of(std::int64_t bytes) {
  std::string text;
  text.reserve(static_cast<std::size_t>(bytes) + filler.size());
  while (static_cast<std::int64_t>(text.size()) < bytes) text += filler;
  text.resize(static_cast<std::size_t>(bytes));
  return text;
}

/// "abc-def"
std::string drawn_name(TaskRandom& random) {
  constexpr std::string_view letters = "abcdefghijklmnopqrstuvwxyz";
  std::string name = random.text(letters, 3);
  name += '-';
  return name + random.text(letters, 3);
}

/// Of what has no place of its own: drawn, or at the depth that was asked for.
std::int64_t place_within(std::int64_t room, TaskRandom& random, const TaskSettings& settings) {
  return settings.depth < 0 ? random.between(0, room)
                            : static_cast<std::int64_t>(std::nearbyint(settings.depth * static_cast<double>(room)));
}

std::string hay_of(const std::string& haystack, std::int64_t bytes, TaskRandom& random) {
  std::string hay;
  hay.reserve(static_cast<std::size_t>(bytes));
  auto at = static_cast<std::size_t>(random.below(static_cast<std::int64_t>(haystack.size())));
  while (static_cast<std::int64_t>(hay.size()) < bytes) {
    hay.append(haystack, at, static_cast<std::size_t>(bytes) - hay.size());
    at = 0;
  }
  return hay;
}

}  // namespace

ScoredText needle(std::uint64_t seed, std::int64_t bytes, const TaskSettings& settings) {
  require(settings.haystack && !settings.haystack->empty(), "a needle has no haystack");
  TaskRandom random(seed);
  const std::string name = drawn_name(random), number = fmt::format("{}", random.between(1000000, 9999999));
  const std::string_view begin =
      "A special magic number is hidden within the following text. Make sure to memorize it. I will quiz you about the "
      "number afterwards.\n";
  const std::string sentence = fmt::format("One of the special magic numbers for {} is: {}. ", name, number);
  const std::string question = fmt::format("\nThe special magic number for {} mentioned in the provided text is", name);
  const std::string answer = fmt::format(" {}.", number);
  const std::int64_t room =
      bytes - static_cast<std::int64_t>(begin.size() + sentence.size() + question.size() + answer.size());
  require(room >= 0, "a text of {} bytes has no room for a needle", bytes);
  const std::string hay = hay_of(*settings.haystack, room, random);
  auto before = static_cast<std::size_t>(place_within(room, random, settings));
  if (before > 0) {
    const std::size_t next = hay.find(' ', before - 1), space = next != std::string::npos ? next : hay.rfind(' ');
    before = space == std::string::npos ? hay.size() : space + 1;
  }
  std::string prompt(begin);
  prompt.append(hay, 0, before);
  prompt += sentence;
  prompt.append(hay, before);
  prompt += question;
  return answered(std::move(prompt), answer);
}

ScoredText passkey(std::uint64_t seed, std::int64_t bytes, const TaskSettings& settings) {
  TaskRandom random(seed);
  const std::int64_t key = random.between(1, 50000);
  const std::string_view begin =
      "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. I will quiz you "
      "about the important information there.\n";
  const std::string key_line = fmt::format("\nThe pass key is {0}. Remember it. {0} is the pass key.\n", key);
  const std::string_view question = "\nWhat is the pass key? The pass key is";
  const std::string answer = fmt::format(" {}.", key);
  const std::int64_t room =
      bytes - static_cast<std::int64_t>(begin.size() + key_line.size() + question.size() + answer.size());
  require(room >= 0, "a text of {} bytes has no room for a pass key", bytes);
  const std::int64_t before = place_within(room, random, settings);
  std::string prompt(begin);
  prompt += filler_of(before);
  prompt += key_line;
  prompt += filler_of(room - before);
  prompt += question;
  return answered(std::move(prompt), answer);
}

ScoredText line_retrieval(std::uint64_t seed, std::int64_t lines, const TaskSettings& /*settings*/) {
  TaskRandom random(seed);
  std::vector<std::string> names;
  std::unordered_set<std::string> taken;
  while (static_cast<std::int64_t>(names.size()) < lines) {
    std::string name = drawn_name(random);
    if (taken.insert(name).second) names.push_back(std::move(name));
  }
  std::string record;
  std::vector<std::int64_t> values;
  for (const std::string& name : names) {
    values.push_back(random.between(1, 50000));
    record += fmt::format("line {}: REGISTER_CONTENT is <{}>\n", name, values.back());
  }
  const auto asked = static_cast<std::size_t>(random.below(lines));
  return answered(record + fmt::format("The REGISTER_CONTENT in line {} is", names[asked]),
                  fmt::format(" <{}>", values[asked]));
}

}  // namespace lexring
