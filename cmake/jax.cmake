# Decides whether the handlers for JAX are built (csrc/xla). They need jaxlib's headers, which lie in its package.
#
# Sets FUSEDNN_XLA_INCLUDE to the folder of the headers, or to nothing.

set(FUSEDNN_JAX_INCLUDE AUTO
    CACHE STRING "jaxlib's headers: a folder (jax.ffi.include_dir()), AUTO (those of the building Python) or OFF"
)

set(FUSEDNN_XLA_INCLUDE "")
set(fusednn_xla_header xla/ffi/api/ffi.h)
if(FUSEDNN_JAX_INCLUDE STREQUAL "AUTO")
  # The build backend names its Python one way, CMake another; by hand there may be none. jaxlib is found, not imported;
  # in pip's isolated builds, which hide what is installed, by where pip will install to.
  find_program(FUSEDNN_BUILD_PYTHON NAMES python3 python)
  set(fusednn_find_jaxlib "
import os, sysconfig
from importlib.util import find_spec
found = find_spec('jaxlib')
print(found.submodule_search_locations[0] if found else os.path.join(sysconfig.get_path('purelib'), 'jaxlib'), end='')
")
  foreach(python "${PYTHON_EXECUTABLE}" "${Python_EXECUTABLE}" "${FUSEDNN_BUILD_PYTHON}")
    if(python)
      execute_process(
        COMMAND "${python}" -c "${fusednn_find_jaxlib}"
        RESULT_VARIABLE status OUTPUT_VARIABLE folder ERROR_QUIET
      )
      if(status EQUAL 0 AND EXISTS "${folder}/include/${fusednn_xla_header}")
        set(FUSEDNN_XLA_INCLUDE "${folder}/include")
      endif()
      break()
    endif()
  endforeach()
elseif(NOT FUSEDNN_JAX_INCLUDE STREQUAL "OFF")
  if(NOT EXISTS "${FUSEDNN_JAX_INCLUDE}/${fusednn_xla_header}")
    message(FATAL_ERROR "FUSEDNN_JAX_INCLUDE must be AUTO, OFF or the folder of ${fusednn_xla_header}, which "
                        "jax.ffi.include_dir() tells. Received: FUSEDNN_JAX_INCLUDE=${FUSEDNN_JAX_INCLUDE}")
  endif()
  set(FUSEDNN_XLA_INCLUDE "${FUSEDNN_JAX_INCLUDE}")
endif()

if(FUSEDNN_XLA_INCLUDE)
  message(STATUS "fusednn: handlers for JAX ON: ${FUSEDNN_XLA_INCLUDE}")
else()
  message(STATUS "fusednn: handlers for JAX OFF: no headers of jaxlib (FUSEDNN_JAX_INCLUDE=${FUSEDNN_JAX_INCLUDE})")
endif()
