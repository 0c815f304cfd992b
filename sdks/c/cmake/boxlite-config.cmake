# find_package(boxlite) gives boxlite::boxlite, the shared library, and boxlite::static.
get_filename_component(_boxlite_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
include(CMakeFindDependencyMacro)
find_dependency(Threads)

if(NOT TARGET boxlite::boxlite)
  add_library(boxlite::boxlite SHARED IMPORTED)
  set_target_properties(boxlite::boxlite PROPERTIES
    IMPORTED_LOCATION "${_boxlite_prefix}/lib/libboxlite.so"
    IMPORTED_SONAME "libboxlite.so.0"
    INTERFACE_INCLUDE_DIRECTORIES "${_boxlite_prefix}/include")
  add_library(boxlite::static STATIC IMPORTED)
  set_target_properties(boxlite::static PROPERTIES
    IMPORTED_LOCATION "${_boxlite_prefix}/lib/libboxlite.a"
    INTERFACE_INCLUDE_DIRECTORIES "${_boxlite_prefix}/include"
    INTERFACE_LINK_LIBRARIES "m;${CMAKE_DL_LIBS};Threads::Threads")
endif()
unset(_boxlite_prefix)
