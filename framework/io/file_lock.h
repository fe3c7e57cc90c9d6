/// Locks that other programs hold on files.
#pragma once

#include <filesystem>

namespace lexring {

/// Whether another program holds the file locked, as HDF5 does with every file that it has open for writing; false
/// where nobody can know, e.g. on a file system without locks. It takes a moment's shared lock, so ask only when
/// something is wrong with the file already: on some networks a lock takes long.
bool locked_by_another(const std::filesystem::path& path);

}  // namespace lexring
