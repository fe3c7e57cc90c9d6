#include "parallel/data/buckets.h"

#include <gtest/gtest.h>

#include "tests/parallel/data/data_testing.h"

namespace lexring {
namespace {

class Buckets : public ::testing::Test {
 protected:
  std::unique_ptr<Backend> backend = make_cpu_backend();
  LaidOut model{
      *backend,
      {{"table", {700, 100}}, {"first.norm", {40}}, {"first", {300, 300}}, {"second", {3, 40000}}, {"norm", {40}}}};
  Sections sections = {{4}, {3}, {1, 2}, {0}};
};

TEST_F(Buckets, StretchesCoverTheBufferFromItsEnd) {
  for (const std::size_t bytes : {std::size_t{1000}, std::size_t{100000}, std::size_t{1} << 30}) {
    const auto stretches = cut_gradients(model.store.gradients(), model.parameters(), sections, bytes);
    std::int64_t end = model.store.gradients().elements();
    for (const Stretch& stretch : stretches) {
      EXPECT_EQ(stretch.first + stretch.count, end);
      EXPECT_GT(stretch.count, 0);
      EXPECT_LE(stretch.count, static_cast<std::int64_t>(bytes / 4));
      end = stretch.first;
      // Not before all of it is final: nothing of a later section lies in it.
      for (std::size_t s = stretch.section + 1; s < sections.size(); ++s) {
        for (const std::size_t i : sections[s]) {
          const Tensor& gradient = model.parameters()[i].gradient;
          EXPECT_LE((gradient.raw() - model.store.gradients().raw()) / 4 + gradient.elements(), stretch.first);
        }
      }
    }
    EXPECT_EQ(end, 0);
  }
}

TEST_F(Buckets, SectionsThatLieInAnotherOrderAreRefused) {
  EXPECT_THROW(cut_gradients(model.store.gradients(), model.parameters(), {{4}, {1, 2}, {3}, {0}}), Error);
  EXPECT_THROW(cut_gradients(model.store.gradients(), model.parameters(), {{4}, {3}, {1, 2}}), Error);
}

TEST_F(Buckets, CarryEveryRowOnceToItsOwner) {
  for (const int replicas : {2, 3, 5}) {
    const auto shares = share_rows(model.parameters(), replicas);
    for (const std::size_t bytes : {std::size_t{1000}, std::size_t{100000}, std::size_t{1} << 30}) {
      std::vector<std::vector<int>> owners;
      for (const Parameter& p : model.parameters()) owners.emplace_back(static_cast<std::size_t>(p.value.rows()), -1);
      std::size_t section = 0;
      for (const Bucket& bucket : make_buckets(model.parameters(), sections, shares, bytes)) {
        EXPECT_GE(bucket.section, section);
        section = bucket.section;
        int owner = 0;
        for (const Bucket::Rows& rows : bucket.rows) {
          EXPECT_LE(rows.section, bucket.section);
          EXPECT_GE(rows.owner, owner);
          owner = rows.owner;
          for (std::int64_t row = rows.share.first; row < rows.share.first + rows.share.count; ++row) {
            int& at = owners[rows.share.parameter].at(static_cast<std::size_t>(row));
            EXPECT_EQ(at, -1);
            at = owner;
          }
        }
      }
      for (int r = 0; r < replicas; ++r) {
        for (const RowShare& share : shares[static_cast<std::size_t>(r)]) {
          for (std::int64_t row = share.first; row < share.first + share.count; ++row)
            EXPECT_EQ(owners[share.parameter][static_cast<std::size_t>(row)], r);
        }
      }
    }
  }
}

TEST_F(Buckets, LongParametersTravelInEvenParts) {
  const auto shares = share_rows(model.parameters(), 2);
  const auto buckets = make_buckets(model.parameters(), sections, shares, 100000);
  const auto bytes_of = [&](const RowShare& share) {
    return model.parameters()[share.parameter].gradient.slice(share.first, share.count).bytes();
  };
  EXPECT_GE(buckets.size(), 5U);
  for (const Bucket& bucket : buckets) {
    const Message message = make_message(backend->runtime(), bucket, 2, Dtype::f32, bytes_of);
    EXPECT_EQ(message.borders.front(), 0);
    EXPECT_EQ(message.borders.back(), message.memory.elements());
    EXPECT_LE(message.memory.bytes(), 420000U);  // two rows of 160 kB, and what was left open before
    for (std::size_t i = 0; i < bucket.rows.size(); ++i) {
      const auto at = (message.rows[i].raw() - message.memory.raw()) / 4;
      EXPECT_GE(at, message.borders[static_cast<std::size_t>(bucket.rows[i].owner)]);
      EXPECT_LE(at + message.rows[i].elements(), message.borders[static_cast<std::size_t>(bucket.rows[i].owner) + 1]);
      EXPECT_EQ(message.rows[i].bytes(), bytes_of(bucket.rows[i].share));
    }
  }
}

}  // namespace
}  // namespace lexring
