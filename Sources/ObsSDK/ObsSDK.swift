// ObsSDK
