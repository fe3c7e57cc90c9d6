/// Threads that wait for each other sleep after some twenty microseconds, so that they do not hold up whom they wait
/// for.
#pragma once

namespace lexring {

/// GNU's OpenMP keeps a waiting thread busy for milliseconds, which costs little on a quiet machine; beside one busy
/// process, on two cores, a step then takes eight times as long. How long it reads from the environment when it is
/// loaded, before main. So this program starts itself once more, with GOMP_SPINCOUNT set; unless whoever started it has
/// set that or OMP_WAIT_POLICY, or /proc is missing. At the start of main. (An emulator, qemu-user, loses the program
/// that way: set one of the two there.)
void let_waiting_threads_sleep(char** arguments);

}  // namespace lexring
