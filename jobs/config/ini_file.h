/// INI files as people write them: with a byte-order mark, with Windows' line ends, through a pipe.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

namespace lexring {

/// The whole text of an INI file, or of a pipe (`--config <(command)`), without a byte-order mark. Throws UsageError
/// that names what cannot be read, or is no configuration: a directory, UTF-16, more than 1 MiB, a pipe into which
/// nobody writes.
std::string read_ini_file(const std::filesystem::path& path);

/// One line `key = value` of INI text.
struct IniEntry {
  std::string name;  ///< with its section: "train.steps"
  std::string value;
  std::size_t line = 0;  ///< from 1
};

/// The entries of INI text in their order. Boost's parser does not say in which lines they stand. Throws UsageError
/// that names `source` and line of what is none.
std::vector<IniEntry> ini_entries(const std::string& text, const std::string& source);
/// "run.ini:3: ", what an error begins with.
std::string origin_in_ini(const std::string& source, std::size_t line);
/// The same for the line that gives a key last.
std::string origin_in_ini(const std::vector<IniEntry>& entries, const std::string& source, const std::string& name);

}  // namespace lexring
