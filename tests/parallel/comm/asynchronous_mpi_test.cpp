// Calls that are under way while their caller does other things. Run under mpirun with 1 to 4 ranks.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <thread>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "framework/base/error.h"
#include "framework/base/random.h"
#include "tests/support/mpi_world.h"
#include "tests/support/ring_shift.h"

namespace lexring {
namespace {

using testing::world;
using Borders = std::vector<std::int64_t>;

template <class T>
std::vector<T> values_of(int rank, std::size_t count, std::uint64_t what = 0) {
  std::vector<T> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    constexpr std::size_t drawn = 4093;  // then again from the start: drawing takes longer than sending
    const double normal = i < drawn ? random_normal(5 + what, static_cast<std::uint64_t>(rank), i) : 0.0;
    values[i] =
        i < drawn ? static_cast<T>(static_cast<float>(std::exp(4 * normal) * (i % 2 ? 1 : -1))) : values[i - drawn];
  }
  return values;
}

/// In the order of the ranks, bf16 in f32 and rounded once, as the header promises.
template <class T>
std::vector<T> sum_of_all(int ranks, std::size_t count, std::uint64_t what = 0) {
  using Sum = std::conditional_t<std::is_same_v<T, bfloat16>, float, T>;
  const auto first = values_of<T>(0, count, what);
  std::vector<Sum> sums(first.begin(), first.end());
  for (int rank = 1; rank < ranks; ++rank) {
    const auto other = values_of<T>(rank, count, what);
    for (std::size_t i = 0; i < count; ++i) sums[i] += static_cast<Sum>(other[i]);
  }
  std::vector<T> result(count);
  for (std::size_t i = 0; i < count; ++i) result[i] = static_cast<T>(sums[i]);
  return result;
}

template <class T>
std::span<std::byte> bytes_of(std::vector<T>& values) {
  return std::as_writable_bytes(std::span(values));
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b, std::int64_t first, std::int64_t last) {
  return first == last ||
         std::memcmp(a.data() + first, b.data() + first, static_cast<std::size_t>(last - first) * sizeof(T)) == 0;
}
template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && same_bits(a, b, 0, static_cast<std::int64_t>(a.size()));
}

/// Slices of unequal sizes; rank `empty` has none.
Borders uneven(const Communicator& group, std::int64_t unit, int empty = 1) {
  Borders borders = {0};
  for (int r = 0; r < group.size(); ++r) borders.push_back(borders.back() + (r == empty ? 0 : unit + r));
  return borders;
}

template <class T>
class Asynchronous : public ::testing::Test {};
using Types = ::testing::Types<float, double, bfloat16>;
TYPED_TEST_SUITE(Asynchronous, Types, );

// 131072 f32 or 262144 bf16 are whole blocks of a reduction.
constexpr std::int64_t units[] = {0, 1, 1000, 131072, 200001};

TYPED_TEST(Asynchronous, ReduceScatterAddsInTheOrderOfTheRanks) {
  const auto rank = static_cast<std::size_t>(world()->rank());
  for (const std::int64_t unit : units) {
    for (const int empty : {0, 1}) {
      const auto borders = uneven(*world(), unit, empty);
      const auto count = static_cast<std::size_t>(borders.back());
      auto values = values_of<TypeParam>(world()->rank(), count);
      world()->start_reduce_scatter(bytes_of(values), dtype_of<TypeParam>, borders).wait();
      ASSERT_TRUE(same_bits(values, sum_of_all<TypeParam>(world()->size(), count), borders[rank], borders[rank + 1]))
          << unit << " a rank, none on rank " << empty;
    }
  }
}

TYPED_TEST(Asynchronous, AllReduceGivesEveryRankTheSameBits) {
  for (const std::size_t count : {0UL, 1UL, 2UL, 5UL, 1000UL, 600001UL}) {
    auto values = values_of<TypeParam>(world()->rank(), count);
    world()->start_all_reduce(bytes_of(values), dtype_of<TypeParam>).wait();
    ASSERT_TRUE(same_bits(values, sum_of_all<TypeParam>(world()->size(), count))) << count;
  }
}

TYPED_TEST(Asynchronous, AllGatherBringsEverySlice) {
  const auto rank = static_cast<std::size_t>(world()->rank());
  for (const std::int64_t unit : units) {
    const auto borders = uneven(*world(), unit, world()->size() - 1);
    const auto all = values_of<TypeParam>(77, static_cast<std::size_t>(borders.back()));
    auto values = std::vector<TypeParam>(all.size(), TypeParam(-1));
    std::copy(all.begin() + borders[rank], all.begin() + borders[rank + 1], values.begin() + borders[rank]);
    world()->start_all_gather(bytes_of(values), dtype_of<TypeParam>, borders).wait();
    ASSERT_TRUE(same_bits(values, all)) << unit;
  }
}

/// One of many calls that are under way together, each with data of its own.
struct Many {
  Communicator* group;
  std::uint64_t what;
  std::vector<float> values, should;
  std::vector<float> outgoing;
  std::int64_t first = 0, last = 0;
  Pending pending;

  Many(Communicator& of, std::uint64_t number) : group(&of), what(number) {
    const std::size_t count = number % 3 == 0 ? 7 : 30001 * (number % 5);
    const int rank = group->rank(), size = group->size();
    last = static_cast<std::int64_t>(count);
    if (number % 4 == 0) {
      values = values_of<float>(rank, count, what), should = sum_of_all<float>(size, count, what);
      pending = group->start_all_reduce(bytes_of(values), Dtype::f32);
    } else if (number % 4 == 1) {
      outgoing = values_of<float>(rank, count, what), should = values_of<float>((rank + size - 1) % size, count, what);
      values.resize(count);
      pending = testing::start_ring_shift(*group, std::as_bytes(std::span(outgoing)), bytes_of(values));
    } else {
      const auto borders = even_borders(last, size);
      const std::int64_t own = borders[static_cast<std::size_t>(rank)],
                         end = borders[static_cast<std::size_t>(rank) + 1];
      if (number % 4 == 2) {
        values = values_of<float>(rank, count, what), should = sum_of_all<float>(size, count, what);
        first = own, last = end;
        pending = group->start_reduce_scatter(bytes_of(values), Dtype::f32, borders);
      } else {
        should = values_of<float>(9, count, what), values.resize(count);
        std::copy(should.begin() + own, should.begin() + end, values.begin() + own);
        pending = group->start_all_gather(bytes_of(values), Dtype::f32, borders);
      }
    }
  }
  void check() {
    pending.wait();
    ASSERT_TRUE(same_bits(values, should, first, last)) << "call " << what << " of group " << group->name();
  }
};

TEST(Concurrent, ManyCallsInAnyOrderOfWaitingDoNotMeet) {
  const auto everybody = world()->split("everybody", 0), part = world()->split("part", world()->rank() % 2);
  Communicator* groups[] = {world().get(), everybody.get(), part.get()};
  for (const bool backwards : {false, true}) {
    std::vector<std::unique_ptr<Many>> calls;
    for (std::uint64_t i = 0; i < 40; ++i) {
      calls.push_back(std::make_unique<Many>(*groups[i % 3], i));
      if (i % 7 == 3) {  // a blocking call in between, on each group
        for (Communicator* group : groups) {
          std::vector<std::int64_t> ones(i % 2 == 0 ? 1 : 1000, 1);
          group->all_reduce(ones, Reduce::sum);
          ASSERT_EQ(ones.back(), group->size());
        }
      }
    }
    // Ranks wait in different orders.
    if (backwards) std::reverse(calls.begin(), calls.end());
    std::rotate(calls.begin(), calls.begin() + 5 * world()->rank(), calls.end());
    for (auto& call : calls) call->check();
  }
}

TEST(Concurrent, CallsAdvanceWithoutTheirCaller) {
  const std::size_t count = std::size_t{1} << 20;
  auto values = values_of<float>(world()->rank(), count);
  Pending pending = world()->start_all_reduce(bytes_of(values), Dtype::f32);
  // Nobody calls anything: both stages and the additions come about all the same, and the group is idle again.
  double before = -1;
  for (int i = 0; i < 1000 && world()->busy() != before; ++i) {
    before = world()->busy();
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(world()->busy(), before);
  EXPECT_TRUE(same_bits(values, sum_of_all<float>(world()->size(), count)));
  pending.wait();
}

/// Where wait() may hold up the host.
TEST(Done, IsSaidWhenTheMessageHasComeAndNotBefore) {
  EXPECT_TRUE(Pending().done());
  const auto group = world()->split("late", 0);
  std::vector<float> sent = {static_cast<float>(world()->rank())}, got = {-1};
  const int last = world()->size() - 1;
  const bool receives = last > 0 && world()->rank() == 0, sends = last > 0 && world()->rank() == last;
  Pending pending;
  if (receives) {
    pending = group->start_exchange({}, {{last, bytes_of(got)}});
    EXPECT_FALSE(pending.done());
  }
  world()->barrier();
  if (sends) pending = group->start_exchange({{0, bytes_of(sent)}}, {});
  while (!pending.done()) std::this_thread::yield();
  pending.wait();
  EXPECT_TRUE(pending.done());
  EXPECT_EQ(got[0], receives ? static_cast<float>(last) : -1.0F);
}

TEST(Concurrent, DestroyingAPendingWaitsForIt) {
  const std::size_t count = 300000;
  auto mine = values_of<float>(world()->rank(), count);
  std::vector<float> got(count);
  { const Pending pending = testing::start_ring_shift(*world(), std::as_bytes(std::span(mine)), bytes_of(got)); }
  EXPECT_TRUE(same_bits(got, values_of<float>((world()->rank() + world()->size() - 1) % world()->size(), count)));
}

TEST(Concurrent, LargeMessages) {
  const std::size_t count = std::size_t{16} << 20;  // 64 MiB
  std::vector<float> mine(count, static_cast<float>(world()->rank() + 1)), got(count);
  Pending shift = testing::start_ring_shift(*world(), std::as_bytes(std::span(mine)), bytes_of(got));
  std::vector<float> sums(count, static_cast<float>(world()->rank() + 1));
  world()->start_all_reduce(bytes_of(sums), Dtype::f32).wait();
  shift.wait();
  const auto should = static_cast<float>((world()->rank() + world()->size() - 1) % world()->size() + 1);
  const auto sum = static_cast<float>(world()->size() * (world()->size() + 1) / 2);
  EXPECT_TRUE(std::all_of(got.begin(), got.end(), [&](float v) { return v == should; }));
  EXPECT_TRUE(std::all_of(sums.begin(), sums.end(), [&](float v) { return v == sum; }));
}

/// Rank 0 sends `sent` bytes to rank 1, which expects `expected`.
void expect_disagreement(std::size_t sent, std::size_t expected) {
  const auto group = world()->split("mismatch", 0);
  const std::vector<std::byte> outgoing(sent);
  std::vector<std::byte> incoming(expected);
  if (group->rank() != 1) {
    std::vector<Outgoing> parts;
    if (group->rank() == 0) parts.push_back({1, outgoing});
    const Pending sending = group->start_exchange(parts, {});  // what becomes of it is rank 1's to say
    return;
  }
  try {
    group->start_exchange({}, {{0, incoming}}).wait();
    FAIL() << sent << " bytes where " << expected << " were expected";
  } catch (const Error& error) {
    const std::string message = error.what();
    for (const std::string& part :
         {std::string("group mismatch, call 1 (exchange)"), "rank 0 sends " + std::to_string(sent) + " bytes",
          "rank 1 expects " + std::to_string(expected)})
      EXPECT_NE(message.find(part), std::string::npos) << message;
  }
}

TEST(Disagreement, SizesOfMessages) {
  if (world()->size() == 1) return;  // nobody to disagree with
  for (const std::size_t n : {std::size_t{1000}, std::size_t{1} << 20}) {
    expect_disagreement(n, n + 4);
    expect_disagreement(n + 4, n);
    expect_disagreement(0, n);
    expect_disagreement(n, 0);
  }
}

/// This process stands still for three seconds, as one that a busy machine gives no time to.
void stand_still() {
  const std::string wake = fmt::format("(sleep 3; kill -CONT {}) &", ::getpid());
  ASSERT_EQ(std::system(wake.c_str()), 0);  // NOLINT(cert-env33-c): a shell is what is wanted
  ASSERT_EQ(std::raise(SIGSTOP), 0);
}

/// An error is told when the buffers may go: a long message that is on its way then arrives as it was sent, however
/// long it takes.
TEST(Disagreement, LeavesBuffersToMessagesUnderWay) {
  if (world()->size() == 1) return;
  const auto group = world()->split("mismatch", 0);
  std::vector<float> large(std::size_t{16} << 20, static_cast<float>(group->rank()));  // 64 MiB
  std::vector<std::byte> small(8), expected(12);
  if (group->rank() == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));  // rank 1 stands still before it can take it
    EXPECT_THROW(group->start_exchange({{1, bytes_of(large)}}, {{1, expected}}).wait(), Error);
    std::fill(large.begin(), large.end(), -1.0F);
  } else if (group->rank() == 1) {
    auto exchange = group->start_exchange({{0, small}}, {{0, bytes_of(large)}});
    stand_still();
    exchange.wait();
    EXPECT_TRUE(std::all_of(large.begin(), large.end(), [](float v) { return v == 0.0F; }));
  } else {
    group->start_exchange({}, {}).wait();
  }
}

TEST(Disagreement, SizesOfSlices) {
  if (world()->size() == 1) return;
  world()->set_patience(1);                 // for slices that nobody takes
  std::vector<std::vector<float>> buffers;  // which outlive that: a rank may be late
  // Rank 1 has one block more, or one element; everybody who gets a slice of another size says so.
  for (const std::int64_t more : {std::int64_t{1}, std::int64_t{65536}}) {
    const auto group = world()->split("mismatch", 0);
    std::vector<float>& values =
        buffers.emplace_back(static_cast<std::size_t>(group->size() * (131072 + (group->rank() == 1 ? more : 0))));
    EXPECT_THROW(group
                     ->start_reduce_scatter(bytes_of(values), Dtype::f32,
                                            even_borders(static_cast<std::int64_t>(values.size()), group->size()))
                     .wait(),
                 Error);
  }
  world()->barrier();
  world()->set_patience(0);
}

TEST(Records, BytesAreThoseThatLeftThisRank) {
  const auto group = world()->split("books", 0);
  const auto size = static_cast<std::size_t>(group->size()), others = size - 1,
             rank = static_cast<std::size_t>(group->rank());
  const auto borders = uneven(*group, 1000);
  const auto own = static_cast<std::size_t>(borders[rank + 1] - borders[rank]),
             all = static_cast<std::size_t>(borders.back());
  std::vector<float> values(all), other(all);
  group->start_reduce_scatter(bytes_of(values), Dtype::f32, borders).wait();
  group->start_all_gather(bytes_of(values), Dtype::f32, borders).wait();
  testing::start_ring_shift(*group, bytes_of(values), bytes_of(other)).wait();
  std::vector<double> small(3), large(1000 * size);
  group->all_reduce(small, Reduce::sum);
  group->all_reduce(large, Reduce::sum);
  group->barrier();
  const std::vector<std::pair<std::string, std::size_t>> should = {{"reduce_scatter", 4 * (all - own)},
                                                                   {"all_gather", 4 * own * others},
                                                                   {"exchange", others > 0 ? 4 * all : 0},
                                                                   {"all_reduce", 24 * others + 2 * 8000 * others},
                                                                   {"barrier", 0}};
  const auto records = group->records();
  ASSERT_EQ(records.size(), should.size());
  for (std::size_t i = 0; i < should.size(); ++i) {
    EXPECT_EQ(records[i].operation, should[i].first);
    EXPECT_EQ(records[i].bytes, should[i].second) << should[i].first;
    EXPECT_EQ(records[i].calls, should[i].first == "all_reduce" ? 2U : 1U);
  }
  group->reset_records();
  EXPECT_TRUE(group->records().empty());
  EXPECT_EQ(group->busy(), 0);
}

TEST(Records, TimeUnderWayIsTheUnionAndTimeExposedWhatWasWaited) {
  if (world()->size() == 1) return;
  const auto group = world()->split("books", 0);
  group->barrier();
  group->reset_records();
  // All wait for rank 0, which starts 1 s after the others have: of two calls under way together, one time. A busy
  // machine has 0.4 s to wake somebody.
  const auto late = std::chrono::milliseconds(1000);
  if (group->rank() == 0) {
    world()->barrier();
    std::this_thread::sleep_for(late);
  }
  std::vector<float> a(1000), b(1000);
  Pending first = group->start_all_reduce(bytes_of(a), Dtype::f32),
          second = group->start_all_reduce(bytes_of(b), Dtype::f32);
  if (group->rank() > 0) world()->barrier();
  if (group->rank() == 1) std::this_thread::sleep_for(late / 2);  // hides as much
  first.wait();
  second.wait();
  const auto records = group->records();
  ASSERT_EQ(records.size(), 1U);
  EXPECT_LE(records[0].exposed, group->busy() + 0.4);
  if (group->rank() > 0) {
    EXPECT_GE(group->busy(), 0.99);
  }
  if (group->rank() == 1) {
    EXPECT_LE(records[0].exposed, group->busy() - 0.1);
  }
}

}  // namespace
}  // namespace lexring
