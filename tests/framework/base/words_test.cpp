#include "framework/base/words.h"

#include <span>

#include <gtest/gtest.h>

namespace lexring {
namespace {

enum class Colour { red, green };
constexpr auto words(Colour) {
  return std::to_array<Word<Colour>>({{Colour::green, "green"}, {Colour::red, "red"}, {Colour::green, "verdant"}});
}

TEST(Words, TheFirstIsWrittenAndAllAreRead) {
  EXPECT_STREQ(name_of(Colour::green), "green");
  EXPECT_STREQ(name_of(Colour::red), "red");
  EXPECT_EQ(named<Colour>("verdant"), Colour::green);
  EXPECT_EQ(named<Colour>("red"), Colour::red);
  EXPECT_EQ(named<Colour>("Red"), std::nullopt);
  EXPECT_EQ(named<Colour>(""), std::nullopt);
  EXPECT_EQ(names_of<Colour>(), (std::vector<std::string>{"green", "red"})) << "in the table's order, each value once";
  EXPECT_EQ(names_where<Colour>([](Colour colour) { return colour == Colour::red; }), std::vector<std::string>{"red"});
}

TEST(Words, OnlyATypesOwnTableCounts) {
  static_assert(HasWords<Colour>);
  static_assert(!HasWords<int>);
  static_assert(!HasWords<std::optional<Colour>>);
}

struct Shape {
  const char* name;
  int corners;
  static constexpr const char* key = "shape";
  static std::span<const Shape> table() {
    static constexpr Shape shapes[] = {{"triangle", 3}, {"square", 4}};
    return shapes;
  }
};

TEST(Words, ARowIsFoundByItsName) {
  const RowNamed<Shape> square = "square";
  EXPECT_EQ(square->corners, 4);
  EXPECT_STREQ(name_of(square), "square");
  EXPECT_EQ(square, RowNamed<Shape>(std::string("square")));
  EXPECT_NE(square, RowNamed<Shape>());
  EXPECT_EQ(RowNamed<Shape>()->corners, 3);
  EXPECT_EQ(named<RowNamed<Shape>>("circle"), std::nullopt);
  EXPECT_EQ(names_of<RowNamed<Shape>>(), (std::vector<std::string>{"triangle", "square"}));
  try {
    const RowNamed<Shape> circle = "circle";
    FAIL() << "nothing was thrown, but " << circle->name << " was found";
  } catch (const UsageError& error) {
    EXPECT_STREQ(error.what(), "shape = circle is not known; choose triangle, square");
  }
}

}  // namespace
}  // namespace lexring
