//! The Apple Neural Engine: chips, legality, surfaces, devices and the emulator.
