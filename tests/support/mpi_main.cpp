/// main() of tests that run under mpirun. Every rank runs every test; rank 0 reports, another rank speaks only when it
/// fails.
#include <memory>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "parallel/comm/host/mpi.h"
#include "tests/support/mpi_world.h"

namespace lexring::testing {
namespace {

std::shared_ptr<Communicator> the_world;

/// A rank that has left a test would leave the others waiting in their next collective: a failure ends all.
class EndOnFailure final : public ::testing::EmptyTestEventListener {
 public:
  explicit EndOnFailure(MpiSession& session) : session_(&session) {}

 private:
  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (result.failed() && session_->world()->rank() > 0)
      fmt::print(stderr, "rank {}: {}:{}: {}\n", session_->world()->rank(),
                 result.file_name() ? result.file_name() : "?", result.line_number(), result.message());
  }
  void OnTestEnd(const ::testing::TestInfo& info) override {
    if (info.result()->Failed()) session_->end_all(1);
  }

  MpiSession* session_;
};

}  // namespace

std::shared_ptr<Communicator> world() { return the_world; }

}  // namespace lexring::testing

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  lexring::MpiSession session(argc, argv);
  lexring::testing::the_world = lexring::testing::make_world_under_test(session.world());
  auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
  if (session.world()->rank() > 0) delete listeners.Release(listeners.default_result_printer());
  listeners.Append(new lexring::testing::EndOnFailure(session));
  const int status = RUN_ALL_TESTS();
  lexring::testing::the_world.reset();
  return status;
}
