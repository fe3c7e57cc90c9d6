/// INI files as people write them: with a byte-order mark, with Windows' line ends, through a pipe.
#pragma once

#include <filesystem>
#include <string>

namespace lexring {

/// The whole text of an INI file, or of a pipe (`--config <(command)`), without a byte-order mark. Throws UsageError
/// that names what cannot be read, or is no configuration: a directory, UTF-16, more than 1 MiB, a pipe into which
/// nobody writes.
std::string read_ini_file(const std::filesystem::path& path);

/// "run.ini:3: ", where INI text from `source` gives a key last; Boost's parser does not say.
std::string origin_in_ini(const std::string& text, const std::string& source, const std::string& name);

}  // namespace lexring
