#include "parallel/comm/watch/diagnosis.h"

#include <gtest/gtest.h>

namespace lexring {
namespace {

RankState waiting_for(std::vector<int> peers) { return {true, "cp", "exchange", 17, 1200000, 5, std::move(peers), ""}; }
const RankState computing = {false, "tp", "all_gather", 3, 0, 0, {}, ""};

/// Answers of all ranks but those that are silent.
Diagnosis diagnose_among(int rank, const std::map<int, RankState>& states) {
  return diagnose(rank, waiting_for(states.at(rank).peers), [&](const std::vector<int>& ranks) {
    std::map<int, RankState> answers;
    for (const int r : ranks) {
      if (states.count(r)) answers[r] = states.at(r);
    }
    return answers;
  });
}

TEST(Diagnosis, ARankThatDoesNotAnswerIsNamed) {
  const auto found = diagnose_among(2, {{2, waiting_for({1})}});
  EXPECT_EQ(found.message,
            "waits since 5.0 s for rank 1 in exchange (call 17 of group cp, 1.2 MB). Rank 1 does not answer: it was "
            "stopped, was killed or is cut off");
  EXPECT_EQ(found.distance, 1);
}

TEST(Diagnosis, TheChainIsFollowedToItsEnd) {
  const std::map<int, RankState> states = {{0, waiting_for({3})}, {3, waiting_for({2})}, {2, waiting_for({1})}};
  const auto found = diagnose_among(0, states);
  EXPECT_NE(found.message.find("for rank 3 in exchange"), std::string::npos) << found.message;
  EXPECT_NE(found.message.find(", which waits in turn: rank 3 waits, rank 2 waits for rank 1. Rank 1 does not answer"),
            std::string::npos)
      << found.message;
  EXPECT_EQ(found.distance, 3);
}

TEST(Diagnosis, ARankAtWorkIsFarBehind) {
  const auto found = diagnose_among(0, {{0, waiting_for({1, 2})}, {1, computing}, {2, waiting_for({1})}});
  EXPECT_NE(found.message.find("waits since 5.0 s for ranks 1, 2 in"), std::string::npos) << found.message;
  EXPECT_NE(found.message.find("Rank 1 is alive and not waiting"), std::string::npos) << found.message;
  EXPECT_NE(found.message.find("its last call was all_gather 3 of group tp"), std::string::npos) << found.message;
}

TEST(Diagnosis, ARankAtWorkSaysWhereItStands) {
  RankState reading = computing;
  reading.standing = "its main thread is in read of /data/corpus.h5";
  const auto found = diagnose_among(0, {{0, waiting_for({1})}, {1, reading}});
  EXPECT_NE(found.message.find("Rank 1 is alive and not waiting for anybody: its main thread is in read of "
                               "/data/corpus.h5; its last call was all_gather 3 of group tp"),
            std::string::npos)
      << found.message;
}

TEST(Diagnosis, SilenceWeighsMoreThanWork) {
  const auto found = diagnose_among(0, {{0, waiting_for({1, 2})}, {1, computing}});
  EXPECT_NE(found.message.find("Rank 2 does not answer"), std::string::npos) << found.message;
}

TEST(Diagnosis, ACircleIsADisagreement) {
  const auto found = diagnose_among(0, {{0, waiting_for({1})}, {1, waiting_for({2})}, {2, waiting_for({0})}});
  EXPECT_NE(found.message.find("They all wait for each other"), std::string::npos) << found.message;
}

}  // namespace
}  // namespace lexring
