internal import ObsCore
