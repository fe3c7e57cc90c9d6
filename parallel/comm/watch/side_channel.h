/// What the watchdogs of all ranks say to each other, beside the program's own messages.
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <list>
#include <map>
#include <optional>
#include <vector>

#include "parallel/comm/host/session.h"
#include "parallel/comm/watch/diagnosis.h"

namespace lexring {

class SideChannel {
 public:
  /// `state` says what this rank does; called under Progress's lock.
  SideChannel(SessionState& session, std::function<RankState()> state);
  SideChannel(const SideChannel&) = delete;
  SideChannel& operator=(const SideChannel&) = delete;
  ~SideChannel();

  /// Answers whoever has asked. False when a call of this rank into MPI does not return.
  bool serve();
  /// Answers that come within `patience`; answers others meanwhile.
  std::map<int, RankState> ask(const std::vector<int>& ranks, std::chrono::milliseconds patience);
  /// Tells all others that this rank is about to speak and end the run.
  void claim();
  /// Whether another rank is about to: of those that claim it at the same time it is the lowest one's, as soon as they
  /// have heard of each other. Not for ever: that rank may be lost before it has spoken.
  bool claimed() const;

 private:
  struct Letter;
  struct Sent;
  void post(int to, int tag, const Letter& letter);
  void receive_all();
  void forget_sent();

  SessionState* session_;
  std::function<RankState()> state_;
  std::list<Sent> sent_;
  std::map<int, RankState> answers_;
  int rank_ = 0;
  bool claims_ = false;
  std::optional<std::chrono::steady_clock::time_point> claimed_;
};

}  // namespace lexring
