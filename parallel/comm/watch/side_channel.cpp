#include "parallel/comm/watch/side_channel.h"

#include <algorithm>
#include <cstring>
#include <thread>

namespace lexring {
namespace {

using namespace std::chrono_literals;

constexpr int question = 1, answer = 2, claim_to_speak = 3;
constexpr auto claims_hold = 10s;  // after which whoever claimed to end the run has not done it

void write_text(std::span<char> to, const std::string& text) { text.copy(to.data(), to.size() - 1); }

}  // namespace

/// A RankState in fixed places. Only the first peers are told; who asks follows those.
struct SideChannel::Letter {
  static constexpr std::size_t room = 16;
  int waits = 0;
  int peer_count = 0;
  std::uint64_t number = 0;
  std::uint64_t bytes = 0;
  double seconds = 0;
  std::array<char, 32> group = {};
  std::array<char, 16> operation = {};
  std::array<int, room> peers = {};
  std::array<char, 256> standing = {};

  Letter() = default;
  explicit Letter(const RankState& s)
      : waits(s.waits),
        peer_count(static_cast<int>(std::min(s.peers.size(), room))),
        number(s.number),
        bytes(s.bytes),
        seconds(s.seconds) {
    write_text(group, s.group);
    write_text(operation, s.operation);
    write_text(standing, s.standing);
    std::copy_n(s.peers.begin(), peer_count, peers.begin());
  }
  RankState state() const {
    return {waits != 0,
            group.data(),
            operation.data(),
            number,
            bytes,
            seconds,
            {peers.begin(), peers.begin() + peer_count},
            standing.data()};
  }
};

struct SideChannel::Sent {
  Letter letter;
  MPI_Request request = MPI_REQUEST_NULL;
};

SideChannel::SideChannel(SessionState& session, std::function<RankState()> state)
    : session_(&session), state_(std::move(state)) {
  session_->progress->alone([&] { MPI_Comm_rank(session_->side, &rank_); });
}

SideChannel::~SideChannel() {
  session_->progress->alone([&] {
    forget_sent();
    for (Sent& sent : sent_) {
      MPI_Cancel(&sent.request);
      MPI_Request_free(&sent.request);
    }
  });
}

void SideChannel::post(int to, int tag, const Letter& letter) {
  forget_sent();
  Sent& sent = sent_.emplace_back(Sent{letter, MPI_REQUEST_NULL});
  LEXRING_MPI_CALL(MPI_Isend(&sent.letter, sizeof(Letter), MPI_BYTE, to, tag, session_->side, &sent.request));
}

void SideChannel::forget_sent() {
  std::erase_if(sent_, [](Sent& sent) {
    int done = 0;
    MPI_Test(&sent.request, &done, MPI_STATUS_IGNORE);
    return done != 0;
  });
}

void SideChannel::receive_all() {
  for (int there = 1; there != 0;) {
    MPI_Status status;
    LEXRING_MPI_CALL(MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, session_->side, &there, &status));
    if (!there) break;
    Letter letter;
    LEXRING_MPI_CALL(MPI_Recv(&letter, sizeof(Letter), MPI_BYTE, status.MPI_SOURCE, status.MPI_TAG, session_->side,
                              MPI_STATUS_IGNORE));
    if (status.MPI_TAG == question) post(status.MPI_SOURCE, answer, Letter(state_()));
    if (status.MPI_TAG == answer) answers_[status.MPI_SOURCE] = letter.state();
    if (status.MPI_TAG == claim_to_speak && !(claims_ && status.MPI_SOURCE > rank_))
      claimed_ = std::chrono::steady_clock::now();
  }
}

bool SideChannel::serve() {
  return session_->progress->alone_within(1s, [&] { receive_all(); });
}

std::map<int, RankState> SideChannel::ask(const std::vector<int>& ranks, std::chrono::milliseconds patience) {
  answers_.clear();
  session_->progress->alone_within(patience, [&] {
    for (const int rank : ranks) post(rank, question, {});
  });
  const auto missing = [&](int rank) { return answers_.count(rank) == 0; };
  for (const auto until = std::chrono::steady_clock::now() + patience; std::chrono::steady_clock::now() < until;) {
    serve();
    if (std::none_of(ranks.begin(), ranks.end(), missing)) break;
    std::this_thread::sleep_for(5ms);
  }
  return answers_;
}

void SideChannel::claim() {
  claims_ = true;
  session_->progress->alone_within(1s, [&] {
    int size = 0;
    MPI_Comm_size(session_->side, &size);
    for (int other = 0; other < size; ++other) {
      if (other != rank_) post(other, claim_to_speak, {});
    }
  });
}

bool SideChannel::claimed() const { return claimed_ && std::chrono::steady_clock::now() - *claimed_ < claims_hold; }

}  // namespace lexring
