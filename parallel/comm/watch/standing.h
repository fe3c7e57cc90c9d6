/// Where the threads of this process stand, as the kernel sees it (/proc, Linux). No signal is sent and no register is
/// read: a thread that computes may have anything in its stack register (framework/base/signal_stack.h).
#pragma once

#include <string>

namespace lexring {

/// What the main thread does at this moment, as a clause: "its main thread is running, so it computes or loops", "its
/// main thread is in read of /data/corpus.h5", "its main thread waits for another thread, which is in fsync of
/// /runs/a/step-00000100.partial/shard-0001.h5". Empty where the kernel does not say. Paths are shortened to their end.
std::string describe_main_thread();

}  // namespace lexring
