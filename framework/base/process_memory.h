/// Memory of this process, as the kernel counts it.
#pragma once

namespace lexring {

/// Most resident memory of this process so far, and resident memory now, MiB.
double peak_memory_mib();
double resident_memory_mib();

}  // namespace lexring
