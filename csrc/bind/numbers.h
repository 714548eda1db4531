// Python numbers, with errors that name the argument: what pybind11 says of a wrong type names only the whole call.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <string>

namespace fusednn {

namespace py = pybind11;

double real(const char* name, py::handle value);
std::optional<double> optional_real(const char* name, py::handle value);
int64_t integer(const char* name, py::handle value);
bool flag(const char* name, py::handle value);
std::optional<bool> optional_flag(const char* name, py::handle value);
std::string text(const char* name, py::handle value);

}  // namespace fusednn
