/// Ends a run that hangs, and says who holds it up.
///
/// A thread per rank looks whether a call (a blocking one, or a Pending that is waited for) has not moved for too long.
/// It then asks the watchdogs of the ranks waited for what they do, and so on along the chain: a rank that does not
/// answer was stopped or killed, one that answers "not waiting" is far behind, and says where its threads stand: in
/// which system call at which file, or computing. One rank prints one message that names it, and ends every rank with
/// exit code 1. What a library says has failed ends the run too, seconds later: it may come of another rank's end, and
/// that rank knows why it ended. Costs some looks a second. Every rank has one, with the same time.
///
///   MpiSession session(argc, argv);
///   const Watchdog watchdog(session, 600);   // until the end of main
///   world->set_patience(options.seconds);    // once the configuration is known
#pragma once

#include <memory>

#include "parallel/comm/host/mpi.h"

namespace lexring {

class Watchdog {
 public:
  /// `seconds` without any movement end the run; 0: never; Communicator::set_patience changes it. Does nothing for a
  /// session of one rank, or where MPI lets no second thread in. `session` must outlive it.
  Watchdog(MpiSession& session, double seconds);
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  ~Watchdog();

 private:
  class Thread;
  std::unique_ptr<Thread> thread_;
};

}  // namespace lexring
