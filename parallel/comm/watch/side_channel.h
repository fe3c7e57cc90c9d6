/// What the watchdogs of all ranks say to each other, beside the program's own messages.
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <list>
#include <map>
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
  /// Whether another rank did.
  bool claimed() const { return claimed_; }

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
  bool claimed_ = false;
};

}  // namespace lexring
