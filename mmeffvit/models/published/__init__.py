"""Published files of each family: data, as `mmeffvit.models.weights.WeightsFile` describes it.

Addresses, sizes and hashes are as their publishers give them; where a hash is cut, only its start
is known. Figures are the published ones. No file has been opened here.
"""
