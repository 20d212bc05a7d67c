"""Our VAE beside pythae's (Chadebec et al. 2022): throughput with one network, and what the defaults of each are worth."""
