/// Memory of this process, as the kernel counts it.
#pragma once

namespace lexring {

/// Most resident memory of this process so far, and resident memory now, MiB.
double peak_memory_mib();
double resident_memory_mib();
/// What processes here can still take without swapping, MiB: the kernel's estimate for the machine, or what a control
/// group (v2) of this process leaves of its limit, if that is less.
double available_memory_mib();

}  // namespace lexring
