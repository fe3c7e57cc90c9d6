#include <algorithm>

#include "framework/io/hdf5_handle.h"

namespace lexring {
namespace {

using Lock = std::lock_guard<std::mutex>;

std::string attribute_subject(const std::string& object_subject, const std::string& name) {
  return object_subject + ": attribute " + name;
}

void write_scalar(hid_t object, const std::string& name, hid_t type, const void* value, const std::string& subject) {
  if (LEXRING_HDF5_CALL(subject, H5Aexists(object, name.c_str())) > 0)
    LEXRING_HDF5_CALL(subject, H5Adelete(object, name.c_str()));
  const Hdf5Handle space(LEXRING_HDF5_CALL(subject, H5Screate(H5S_SCALAR)), H5Sclose);
  const Hdf5Handle attribute(
      LEXRING_HDF5_CALL(subject, H5Acreate2(object, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT)), H5Aclose);
  LEXRING_HDF5_CALL(subject, H5Awrite(attribute, type, value));
}

struct Attribute {
  Hdf5Handle handle;
  Hdf5Handle type;
  H5T_class_t type_class;
  std::size_t count;
  std::string subject;
};

Attribute open_attribute(const Hdf5Handle& object, const std::string& name, const std::string& object_subject) {
  Attribute attribute;
  attribute.subject = attribute_subject(object_subject, name);
  require(LEXRING_HDF5_CALL(attribute.subject, H5Aexists(object, name.c_str())) > 0,
          "{} has no attribute {}; the file may be of another kind or version", object_subject, name);
  attribute.handle = {LEXRING_HDF5_CALL(attribute.subject, H5Aopen(object, name.c_str(), H5P_DEFAULT)), H5Aclose};
  attribute.type = {LEXRING_HDF5_CALL(attribute.subject, H5Aget_type(attribute.handle)), H5Tclose};
  attribute.type_class = H5Tget_class(attribute.type);
  const Hdf5Handle space(LEXRING_HDF5_CALL(attribute.subject, H5Aget_space(attribute.handle)), H5Sclose);
  attribute.count = static_cast<std::size_t>(LEXRING_HDF5_CALL(attribute.subject, H5Sget_simple_extent_npoints(space)));
  return attribute;
}

std::vector<double> read_doubles(const Attribute& attribute) {
  require(attribute.type_class == H5T_FLOAT || attribute.type_class == H5T_INTEGER, "{} is not a number",
          attribute.subject);
  std::vector<double> values(attribute.count);
  if (!values.empty())
    LEXRING_HDF5_CALL(attribute.subject, H5Aread(attribute.handle, H5T_NATIVE_DOUBLE, values.data()));
  return values;
}

std::string read_variable_string(const Attribute& attribute) {
  char* text = nullptr;
  LEXRING_HDF5_CALL(attribute.subject, H5Aread(attribute.handle, attribute.type, &text));
  std::string value = text == nullptr ? "" : text;
  H5free_memory(text);
  return value;
}

std::string read_fixed_string(const Attribute& attribute) {
  std::string value(H5Tget_size(attribute.type), '\0');
  LEXRING_HDF5_CALL(attribute.subject, H5Aread(attribute.handle, attribute.type, value.data()));
  if (attribute.type_class == H5T_OPAQUE) return value;
  const H5T_str_t padding = H5Tget_strpad(attribute.type);
  if (padding == H5T_STR_SPACEPAD) {
    value.erase(value.find_last_not_of(' ') + 1);
  } else {
    value.erase(std::min(value.find('\0'), value.size()));
  }
  return value;
}

}  // namespace

void Hdf5File::write_attribute(const std::string& object, const std::string& name, const std::string& value) {
  const Lock lock(hdf5_mutex());
  const std::string subject = attribute_subject(impl_->subject(object), name);
  require(value.find('\0') == std::string::npos, "{}: a text with a zero byte in it cannot be an attribute", subject);
  const Hdf5Handle opened = impl_->open_object(object);
  const Hdf5Handle type(LEXRING_HDF5_CALL(subject, H5Tcopy(H5T_C_S1)), H5Tclose);
  LEXRING_HDF5_CALL(subject, H5Tset_size(type, H5T_VARIABLE));
  LEXRING_HDF5_CALL(subject, H5Tset_cset(type, H5T_CSET_UTF8));
  const char* text = value.c_str();
  write_scalar(opened, name, type, &text, subject);
}

void Hdf5File::write_attribute(const std::string& object, const std::string& name, std::int64_t value) {
  const Lock lock(hdf5_mutex());
  const std::string subject = attribute_subject(impl_->subject(object), name);
  write_scalar(impl_->open_object(object), name, hdf5_type(H5Type::i64), &value, subject);
}

void Hdf5File::write_attribute(const std::string& object, const std::string& name, double value) {
  const Lock lock(hdf5_mutex());
  const std::string subject = attribute_subject(impl_->subject(object), name);
  write_scalar(impl_->open_object(object), name, hdf5_type(H5Type::f64), &value, subject);
}

bool Hdf5File::has_attribute(const std::string& object, const std::string& name) const {
  const Lock lock(hdf5_mutex());
  const Hdf5Handle opened = impl_->open_object(object);
  return LEXRING_HDF5_CALL(attribute_subject(impl_->subject(object), name), H5Aexists(opened, name.c_str())) > 0;
}

std::string Hdf5File::string_attribute(const std::string& object, const std::string& name) const {
  const Lock lock(hdf5_mutex());
  const Hdf5Handle opened = impl_->open_object(object);
  const Attribute attribute = open_attribute(opened, name, impl_->subject(object));
  if (attribute.count == 0 && (attribute.type_class == H5T_STRING || attribute.type_class == H5T_OPAQUE)) return "";
  require((attribute.type_class == H5T_STRING || attribute.type_class == H5T_OPAQUE) && attribute.count == 1,
          "{} is not one text", attribute.subject);
  const bool is_variable = attribute.type_class == H5T_STRING &&
                           LEXRING_HDF5_CALL(attribute.subject, H5Tis_variable_str(attribute.type)) > 0;
  return is_variable ? read_variable_string(attribute) : read_fixed_string(attribute);
}

std::int64_t Hdf5File::int_attribute(const std::string& object, const std::string& name) const {
  const Lock lock(hdf5_mutex());
  const Hdf5Handle opened = impl_->open_object(object);
  const Attribute attribute = open_attribute(opened, name, impl_->subject(object));
  require(attribute.type_class == H5T_INTEGER && attribute.count == 1, "{} is not one integer", attribute.subject);
  std::int64_t value = 0;
  LEXRING_HDF5_CALL(attribute.subject, H5Aread(attribute.handle, H5T_NATIVE_INT64, &value));
  return value;
}

double Hdf5File::double_attribute(const std::string& object, const std::string& name) const {
  const Lock lock(hdf5_mutex());
  const Hdf5Handle opened = impl_->open_object(object);
  const Attribute attribute = open_attribute(opened, name, impl_->subject(object));
  require(attribute.count == 1, "{} is not one number", attribute.subject);
  return read_doubles(attribute)[0];
}

std::vector<double> Hdf5File::doubles_attribute(const std::string& object, const std::string& name) const {
  const Lock lock(hdf5_mutex());
  const Hdf5Handle opened = impl_->open_object(object);
  return read_doubles(open_attribute(opened, name, impl_->subject(object)));
}

}  // namespace lexring
