/// Who holds up a run: follows who waits for whom to the rank that everybody waits for. No MPI here.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace lexring {

/// What a rank says about itself when its watchdog is asked. Ranks are world ranks.
struct RankState {
  bool waits = false;  ///< else it computes, reads, writes: whatever it does, nobody holds it up
  std::string group;   ///< of the call it waits in, else of the last one it began
  std::string operation;
  std::uint64_t number = 0;  ///< 0: it began none
  std::uint64_t bytes = 0;   ///< of the call's messages
  double seconds = 0;        ///< since it waits and nothing moves
  std::vector<int> peers;    ///< whom it waits for
  std::string standing;      ///< where it does not wait for a rank: what its threads do (standing.h); may be empty
};

struct Diagnosis {
  std::string message;  ///< one sentence or two: who waits, for whom, who holds all up and how
  int distance = 0;     ///< from the rank that asks to the one that holds all up: 1 if it waits for it directly
};

/// Asks ranks what they do, all at once; those that do not answer are missing in the result.
using AskRanks = std::function<std::map<int, RankState>(const std::vector<int>&)>;

/// Why `rank`, in state `own`, waits.
Diagnosis diagnose(int rank, const RankState& own, const AskRanks& ask);

/// "exchange (call 17 of group cp, 1.2 MB)"
std::string describe_call(const RankState& state);

}  // namespace lexring
