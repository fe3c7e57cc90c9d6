/// SIGTERM, SIGINT and SIGUSR1 as a wish to stop at the next step boundary.
#pragma once

namespace lexring {

/// While one lives, the first of these signals is only remembered; a second one ends the process as usual. One at a time.
class StopSignal {
 public:
  StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;
  ~StopSignal();
  bool received() const;
};

}  // namespace lexring
